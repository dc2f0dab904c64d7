# docker build --file=launch/gpu.Dockerfile --tag=IMAGE .
# docker run --gpus=all --shm-size=8g IMAGE --config=configs/digits.py
#
# CUDA comes with JAX; the driver is the host's, 580 or newer. For older ones (525):
# --build-arg=EXTRA=cuda12.
FROM python:3.12-slim
ARG EXTRA=cuda
WORKDIR /clonalnet
COPY pyproject.toml setup.cfg setup.py README.md LICENSE main.py ./
COPY clonalnet_jax clonalnet_jax
COPY configs configs
# jax[k8s]: how JAX finds the other hosts of a JobSet.
RUN pip install --no-cache-dir --editable ".[$EXTRA]" "jax[k8s]"
# Where the container toolkit and GKE put the host's driver.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64
# No shell between: main.py itself is sent SIGTERM.
ENTRYPOINT ["python", "main.py"]
