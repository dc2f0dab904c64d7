"""What a program does is read from its text."""

import jax
import jax.numpy as jnp
import pytest

from clonalnet_jax.models import create_model
from clonalnet_jax.planning.hlo import (
    Collective,
    Contents,
    read_program,
    read_text,
)

MODULE = """HloModule jit_step, is_scheduled=true

%fused (p.1: f32[4,8]) -> f32[4,8] {
  %p.1 = f32[4,8]{1,0} parameter(0)
  ROOT %add.9 = f32[4,8]{1,0} add(%p.1, %p.1)
}

%condition (c: (s32[], f32[4,8])) -> pred[] {
  %c = (s32[], f32[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %limit = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%body (b: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %b = (s32[], f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%b), index=1
  %y = f32[4,8]{1,0} fusion(%x), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"100"}
  ROOT %t = (s32[], f32[4,8]{1,0}) tuple(%x, %y)
}

ENTRY %main (a: f32[4,8]) -> bf16[4] {
  %a = f32[4,8]{1,0} parameter(0)
  %start = (f32[4,8]{1,0}, f32[8]{0}) all-reduce-start(%a, %a), to_apply=%sum
  %done = (f32[4,8]{1,0}, f32[8]{0}) all-reduce-done(%start)
  %gathered = (bf16[2]{0}, bf16[16]{0}) all-gather-start(%a), dimensions={0}
  %all = bf16[16]{0} all-gather-done(%gathered)
  %near = f32[4,8]{1,0:T(8,128)S(1)} fusion(%a), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"7"}
  %loop = (s32[], f32[4,8]{1,0}) while(%a), condition=%condition, body=%body
  ROOT %out = bf16[4]{0} copy(%near)
}
"""  # noqa: E501


def test_loops_count_as_often_as_they_turn():
    found = read_text(MODULE)
    assert found.cycles == 5 * 100 + 7
    assert found.fusions == 6
    assert found.copies == 1
    assert found.launches == 6 + 1 + 2  # and the collectives, where they start


def test_known_trips_go_before_what_a_condition_compares_with():
    known = MODULE.replace(
        "body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"3"}}'
    )
    assert read_text(known).cycles == 3 * 100 + 7


def test_collectives_are_counted_by_kind_and_type():
    assert read_text(MODULE).collectives == [
        Collective("all-gather", "bf16", 1, 32),
        Collective("all-reduce", "f32", 1, 4 * (32 + 8)),
    ]


def test_semaphores_do_not_travel():
    text = """ENTRY %main (a: bf16[2,16]) -> bf16[2,16] {
  %a = bf16[2,16]{1,0} parameter(0)
  %sent = (bf16[2,16]{1,0:S(1)}, bf16[2,16]{1,0:S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%a), source_target_pairs={{0,1},{1,0}}
  ROOT %done = bf16[2,16]{1,0} collective-permute-done(%sent)
}
"""  # noqa: E501
    assert read_text(text).collectives == [
        Collective("collective-permute", "bf16", 1, 64)
    ]


def test_what_lies_in_fast_memory_is_no_traffic():
    far = read_text(MODULE).traffic
    near = read_text(MODULE.replace("S(1)", "")).traffic
    assert near - far == 2 * 4 * 32  # written by the fusion, read by the copy


def test_a_copy_to_fast_memory_is_read_once_and_a_slice_in_part():
    whole = 1024 * 1024 * 2
    text = """ENTRY %main (z: bf16[1024,1024]) -> bf16[1024,1024] {
  %z = bf16[1024,1024]{1,0:T(8,128)(2,1)} parameter(0)
  %all = (bf16[1024,1024]{1,0:S(1)}, bf16[1024,1024]{1,0}, u32[]{:S(2)}) copy-start(%z)
  %copied = bf16[1024,1024]{1,0:S(1)} copy-done(%all)
  %part = ((bf16[1024,1024]{1,0}), bf16[256,1024]{1,0:S(1)}, s32[]) slice-start(%z)
  %sliced = bf16[256,1024]{1,0:S(1)} slice-done(%part)
  %out = (bf16[1024,1024]{1,0}, bf16[1024,1024]{1,0:S(1)}, u32[]) copy-start(%copied)
  ROOT %done = bf16[1024,1024]{1,0} copy-done(%out)
}
"""
    assert read_text(text).traffic == whole + whole // 4 + whole


@pytest.mark.parametrize(
    ("users", "read"),
    [
        (["slice(%p.0), slice={[0:8]}"], 8),
        (["slice(%p.0), slice={[0:8]}", "slice(%p.0), slice={[8:16]}"], 16),
        (["dynamic-slice(%p.0, %p.1), dynamic_slice_sizes={8}"], 8),
        # Overlapping, what is read twice is not moved twice; and used whole, all of it.
        (["slice(%p.0), slice={[0:8]}"] * 200, 1024),
        (["slice(%p.0), slice={[0:8]}", "copy(%p.0)"], 1024),
    ],
)
def test_a_fusion_reads_no_more_than_its_slices(users, read):
    inside = "\n".join(
        f"  %u.{i} = f32[{1024 if user.startswith('copy') else 8}]{{0}} {user}"
        for i, user in enumerate(users)
    )
    text = f"""
%fused (p.0: f32[1024], p.1: s32[]) -> f32[4] {{
  %p.0 = f32[1024]{{0}} parameter(0)
  %p.1 = s32[] parameter(1)
{inside}
  ROOT %sum = f32[4]{{0}} custom-call(%u.0)
}}

ENTRY %main (a: f32[1024], i: s32[]) -> f32[4] {{
  %a = f32[1024]{{0}} parameter(0)
  %i = s32[] parameter(1)
  ROOT %out = f32[4]{{0}} fusion(%a, %i), kind=kLoop, calls=%fused
}}
"""
    # And the index, and the result.
    assert read_text(text).traffic == 4 * (read + 1 + 4)


def test_a_slice_by_itself_is_read_and_written():
    text = """ENTRY %main (a: f32[1024]) -> f32[8] {
  %a = f32[1024]{0} parameter(0)
  ROOT %out = f32[8]{0} slice(%a), slice={[0:8]}
}
"""
    assert read_text(text).traffic == 2 * 4 * 8


@pytest.mark.parametrize(
    ("result", "target", "written"),
    [
        ("(bf16[8,4]{1,0}, s8[33554432]{0})", "__cublas$lt$matmul", 2 * 32),
        ("(bf16[8,4]{1,0}, u8[4096]{0})", "__cudnn$convForward", 2 * 32),
        ("(bf16[8,4]{1,0}, u8[0]{0})", "__cudnn$convForward", 2 * 32),
        # Bytes that are results, and other people's kernels.
        ("s8[8,4]{1,0}", "__cublas$lt$matmul", 32),
        ("(s8[8,4]{1,0}, s8[16,4]{1,0})", "__cublas$lt$matmul", 32 + 64),
        ("(bf16[8,4]{1,0}, u8[4096]{0})", "quantise", 2 * 32 + 4096),
    ],
)
def test_what_a_library_works_in_is_not_moved(result, target, written):
    text = f"""ENTRY %main (a: bf16[8,2], b: bf16[2,4]) -> bf16[8,4] {{
  %a = bf16[8,2]{{1,0}} parameter(0)
  %b = bf16[2,4]{{1,0}} parameter(1)
  ROOT %out = {result} custom-call(%a, %b), custom_call_target="{target}", metadata={{}}
}}
"""
    assert read_text(text).traffic == 2 * (16 + 8) + written


@pytest.mark.parametrize(
    ("shape", "padding"),
    [
        # The innermost dimension first, as a layout lists them: 64 of 128 lanes.
        ("bf16[64,7,7,256]{0,3,2,1:T(8,128)(2,1)}", {64: 2 * 64 * 49 * 256}),
        ("bf16[128,7,7,256]{0,3,2,1:T(8,128)(2,1)}", {}),
        # The next one fills three of eight, too; what is worst is named.
        ("f32[64,7,7,3]{0,3,2,1:T(8,128)}", {3: 4 * 49 * (8 * 128 - 3 * 64)}),
        ("f32[3,64]{1,0:T(4,128)}", {64: 4 * (4 * 128 - 3 * 64)}),
        ("f32[1000]{0:T(1024)}", {1000: 4 * 24}),
        # Another device's layout, and what does not leave the fast memory.
        ("bf16[64,7,7,256]{3,2,1,0}", {}),
        ("bf16[64,7,7,256]{0,3,2,1:T(8,128)(2,1)S(1)}", {}),
        ("f32[]{:T(128)}", {}),
        ("f32[0,64]{1,0:T(8,128)}", {}),
    ],
)
def test_what_fills_no_tile_is_padded(shape, padding):
    text = f"""ENTRY %main () -> {shape} {{
  ROOT %made = {shape} iota(), iota_dimension=0
}}
"""
    assert read_text(text).padding == padding


def test_a_branch_that_may_be_taken_counts():
    program = jax.jit(
        lambda x, flag: jax.lax.cond(flag, lambda y: jnp.sin(y) @ y, jnp.cos, x)
    )
    x = jnp.ones((16, 16))
    both = read_program(program.lower(x, True).compile())
    alone = read_program(jax.jit(lambda y: jnp.sin(y) @ y).lower(x).compile())
    assert both.launches > alone.launches


@pytest.mark.parametrize(
    ("traced_in", "part"),
    [
        ("jvp(Net)/stages_0/blocks_12/mlp/fc1/dot", "Net/stages/blocks/mlp/fc"),
        ("jvp(Net)/layer1_0/conv2/conv2/conv", "Net/layer/conv"),
        ("jvp(NetV2)/features_3/Conv_1/conv", "NetV2/features/Conv"),
        ("transpose(jvp(Net))/layer1_0/bn1/add", "Net/layer/bn, backward"),
        ("transpose(jvp(Net))/conv1/transpose()/conv", "Net/conv, backward"),
        ("baseline/Net/blocks_3/attn/bqk,bkc->bqc/dot", "baseline/Net/blocks/attn"),
        ("jvp(Net)/blocks_3/qkv/qkv._map/add", "Net/blocks/qkv"),
        ("vmap(jit(_bernoulli))/jit(_uniform)/shift_left", "other"),
        ("while/body/closed_call/jvp(Net)/fc/add", "Net/fc"),
        ("add", "other"),
    ],
)
def test_a_part_is_a_layer_whatever_its_number(traced_in, part):
    fused = "calls=%fused, backend_config"
    source = fused.replace(
        "back", f'metadata={{op_name="jit(step)/{traced_in}"}}, back'
    )
    parts = read_text(MODULE.replace(fused, source, 1)).parts
    assert parts == ({"other": 507} if part == "other" else {part: 500, "other": 7})


def test_where_cycles_are_unknown_parts_are_of_the_traffic():
    found = read_text(MODULE.replace("estimated_cycles", "no_cycles"))
    assert found.cycles is None
    assert found.parts == {"other": found.traffic}


def test_the_parts_of_a_real_step_are_those_of_its_network():
    model = create_model("resnet8", 10, width=8)
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )

    def loss(variables, images):
        return model.apply(variables, images, train=False).sum()

    compiled = jax.jit(jax.grad(loss)).lower(variables, images).compile()
    found = read_program(compiled)
    assert sum(found.parts.values()) == found.traffic
    assert {"ResNet/layer/conv", "ResNet/layer/conv, backward"} <= found.parts.keys()


@pytest.mark.parametrize("turns", [1, 4, 9])
def test_a_real_loop_moves_its_bytes_every_time(turns):
    def many(x):
        return jax.lax.fori_loop(0, turns, lambda i, y: jnp.sin(y @ y), x)

    found = read_program(jax.jit(many).lower(jnp.ones((256, 256))).compile())
    size = 4 * 256 * 256
    # At least a product, which reads its operand twice over and writes its result.
    assert 2 * turns * size <= found.traffic <= 12 * (turns + 1) * size
    assert found.cycles is None


@pytest.mark.parametrize("cycles", [None, 120])
def test_a_step_is_its_share_of_a_call(cycles):
    once = Contents(
        launches=7, fusions=3, copies=2, traffic=1000, padding={64: 10, 3: 2},
        cycles=cycles, parts={"head": 900, "other": 1},
        collectives=[Collective("all-reduce", "f32", 2, 400)],
    )  # fmt: skip
    # A call of three steps, and an instruction beside its loop.
    call = Contents(
        launches=22, fusions=9, copies=6, traffic=3001, padding={64: 30, 3: 6},
        cycles=cycles and 3 * cycles, parts={"head": 2700, "other": 2},
        collectives=[Collective("all-reduce", "f32", 6, 1200)],
    )  # fmt: skip
    assert call.of_a_step(3) == once
    assert once.of_a_step(1) == once
