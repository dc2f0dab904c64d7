# docker build --file=launch/tpu.Dockerfile --tag=IMAGE .
# docker run --privileged --network=host IMAGE --config=configs/digits.py   (on a TPU VM)
FROM python:3.12-slim
WORKDIR /clonalnet
COPY pyproject.toml setup.cfg setup.py README.md LICENSE main.py ./
COPY clonalnet_jax clonalnet_jax
COPY configs configs
RUN pip install --no-cache-dir --editable ".[tpu]"
# No shell between: main.py itself is sent SIGTERM.
ENTRYPOINT ["python", "main.py"]
