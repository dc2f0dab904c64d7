"""Every use of a workdir, and what it comes to where a file is damaged."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.numpy
from ml_collections import ConfigDict

from benchmarks.damages import DAMAGES, is_of_a_step, leave_unfinished
from benchmarks.given import figures_of, page_of, patience, quietly, write_images
from benchmarks.opened import opened_below
from clonalnet_jax.comparing.running import compare
from clonalnet_jax.errors import UserError
from clonalnet_jax.report import rendering, write_report
from clonalnet_jax.trained.export import export
from clonalnet_jax.trained.predict import predict_files
from clonalnet_jax.training import story
from clonalnet_jax.workdir.checkpoints import Checkpoints
from clonalnet_jax.workdir.ledger import digest_of
from clonalnet_jax.workdir.saved_config import saved_config


class Outcome(NamedTuple):
    """How the uses of a damaged workdir ended.

    Attributes:
      word: `same`; `told`, where a warning says so; `mended`, where a use refused and
        training made the file again; `set aside`; `refused`, by training, too, until
        its advice is followed; or `FAULT`.
      detail: What was said, or at fault.
    """

    word: str
    detail: str = ""


class Uses:
    """Every way to use a workdir, and what each gives of one that is whole.

    Attributes:
      whole: What each use gives of the undamaged workdir, by its name.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        *,
        comparison: bool = False,
        draw_anew: bool = True,
    ) -> None:
        """Uses an undamaged workdir, of which it takes a copy.

        Args:
          config: The config that it was trained with.
          workdir: The workdir; beside it, `copy`, `images` and exports are written.
          comparison: Whether it is of a comparison.
          draw_anew: Whether to draw the figures of a report again, where it may matter.
        """
        self._draw_anew = draw_anew
        self._config, self._workdir = config, workdir
        self._comparison = comparison
        self.copy = workdir.with_name("copy")
        self._images = workdir.with_name("images")
        write_images(self._images)
        self._drawn: dict[Any, list[bytes]] = {}
        self._export = rendering._export
        self._take_copy(unfinished=False)
        self._opened: dict[str, set[Path]] = {}
        self.whole: dict[str, Any] = {}
        self._gone_on_from: set[str] = set()
        rendering._export = self._draw_once
        with quietly():
            for name, use in self._uses().items():
                with opened_below(self.copy) as self._opened[name]:
                    self.whole[name] = use()
            self._take_copy(unfinished=False)
            rendering._export = self._export
            self._page_anew = self._reported()

    def attempt(self, path: Path, damage: str, *, unfinished: bool = False) -> Outcome:
        """Damages one file of a copy and uses that.

        Args:
          path: The file, relative to the workdir.
          damage: A name of `DAMAGES`.
          unfinished: Whether the clone has a checkpoint less and goes on; of a finished
            workdir neither the log nor the baseline's answers are read.

        Returns:
          How it went.
        """
        self._take_copy(unfinished=unfinished)
        self._damage(self.copy / path, damage)
        refusals: list[str] = []
        with quietly() as printed:
            for name, use in self._concerned(path, unfinished).items():
                try:
                    with patience():
                        fault = self._fault_of(name, use, path, printed)
                except UserError as error:
                    refusals.append(f"{name}: {error}")
                    named = self._is_named(path, str(error))
                    fault = "" if named else f"names another: {refusals[-1]}"
                except Exception as error:
                    fault = f"{name}: {type(error).__name__}: {error}"
                if fault:
                    return Outcome("FAULT", fault)
            if refusals and refusals[-1].startswith("train:"):
                fault = self._follow_advice(path)
                word = "FAULT" if fault else "refused"
                return Outcome(word, f"{fault} {refusals[-1]}")
        words = printed.getvalue()
        told = "told" if "WARNING" in words else "mended" if refusals else "same"
        return Outcome(
            "set aside" if "Moved to" in words else told, "\n".join(refusals)
        )

    def _fault_of(
        self, name: str, use: Callable[[], Any], path: Path, printed: io.StringIO
    ) -> str:
        """Runs a use and compares; trains once from what is left of checkpoints."""
        state = ""
        if name == "train" and is_of_a_step(path):
            state, aside = self._left_by(path)
            if state in self._gone_on_from:
                print("Moved to" if aside else "")
                return ""
        fault = self._difference(name, use(), printed.getvalue())
        if state and not fault:
            self._gone_on_from.add(state)
        return fault

    def _left_by(self, path: Path) -> tuple[str, bool]:
        """Digest of the checkpoints that training goes on from, and whether one went.

        All damages of a checkpoint end in the same ones that are left, from which it
        is enough to train once.
        """
        run, scratch = path.parts[0], self.copy.with_name("scratch")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(self.copy / run, scratch)
        with Checkpoints(scratch):
            pass
        aside = [*scratch.glob("*.damaged*")]
        for folder in aside:
            shutil.rmtree(folder)
        files = sorted(file for file in scratch.rglob("*") if file.is_file())
        left = [(str(f.relative_to(scratch)), f.read_bytes()) for f in files]
        return digest_of(repr((run, left)).encode()), bool(aside)

    def _concerned(self, path: Path, unfinished: bool) -> dict[str, Callable[[], Any]]:
        """The uses that the damage of a file can matter to.

        Checkpoints are many files, and a use that opens none of a step's cannot know
        of their damage, but for the one by which steps are found.
        """
        uses = self._uses()
        if unfinished:
            return {"train": uses["train"]}
        # What is drawn of networks is known by their digests alone.
        matters = self._opens("report", path) and not is_of_a_step(path)
        anew = self._draw_anew and matters
        rendering._export = self._export if anew else self._draw_once
        if not is_of_a_step(path) or path.name == "_CHECKPOINT_METADATA":
            return uses
        step = Path(*path.parts[:2])
        return {
            name: use
            for name, use in uses.items()
            if name == "train" or self._opens(name, step)
        }

    def _opens(self, name: str, path: Path) -> bool:
        return any(path in (one, *one.parents) for one in self._opened[name])

    def _take_copy(self, *, unfinished: bool) -> None:
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self._workdir, self.copy)
        if unfinished:
            leave_unfinished(self.copy)

    def _damage(self, path: Path, damage: str) -> None:
        if path.name == "lock.owner":
            path.write_text("someone, process 1 on a machine since a time\n")
        for one in [p for p in path.rglob("*") if p.is_file()] or [path]:
            DAMAGES[damage](one)

    def _difference(self, name: str, found: Any, words: str) -> str:
        anew = name == "report" and rendering._export is self._export
        if found == (self._page_anew if anew else self.whole[name]):
            return ""
        told = name == "report" and "WARNING" in words
        return "" if told else f"{name} gives something else without a word"

    def _is_named(self, path: Path, message: str) -> bool:
        below = [path, *path.parents][:-1]
        named = any(str(self.copy / part) in message for part in below)
        return named or (str(self.copy) in message and path.name in message)

    def _follow_advice(self, path: Path) -> str:
        """Does what the messages advise, after which all must be as it was."""
        if path.parts[0] == "baseline_cache":
            shutil.rmtree(self.copy / path.parent)
        (self.copy / path).unlink(missing_ok=True)
        try:
            found = self._train()
            good = found == self.whole["train"]
            return "" if good else "the advice gives something else"
        except Exception as error:
            return f"the advice ends in {type(error).__name__}: {error}"

    def _uses(self) -> dict[str, Callable[[], Any]]:
        if self._comparison:
            return {"report": self._reported, "train": self._train}
        return {
            "export": self._exported,
            "predict": self._predicted,
            "report": self._reported,
            "evaluate": self._evaluate,
            "train": self._train,
        }

    def _evaluate(self) -> Any:
        config = saved_config(self.copy)
        return self._figures(lambda: story.evaluate(config, self.copy))

    def _train(self) -> Any:
        if self._comparison:
            return self._compared()
        return self._figures(lambda: story.train(self._config, self.copy))

    def _compared(self) -> Any:
        compare(self._config, self.copy)
        return json.loads((self.copy / "compare.json").read_text())

    def _draw_once(self, draw: Any, *rest: Any) -> list[bytes]:
        key = (draw.__qualname__, *rest)
        if key not in self._drawn:
            self._drawn[key] = self._export(draw, *rest)
        return self._drawn[key]

    def _exported(self) -> Any:
        output = self.copy.with_name("exported.safetensors")
        for path in output.parent.glob("exported*"):
            path.unlink()
        config = saved_config(self.copy)
        written = export(config, self.copy, format="safetensors", output=output)
        tensors = safetensors.numpy.load_file(written)
        return {name: array.tobytes() for name, array in tensors.items()}

    def _predicted(self) -> Any:
        config = saved_config(self.copy)
        return list(predict_files(config, self.copy, [self._images]))

    def _reported(self) -> Any:
        write_report(self.copy)
        return page_of(self.copy)

    def _figures(self, act: Callable[[], Any]) -> Any:
        act()
        return figures_of(self.copy)
