# One image for site, flusher, Locust master and workers; docker-compose.yml says which is which.
FROM python:3.11.10-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --system --uid 10001 --create-home pollstorm

# The dependencies are a layer of their own: it stays when only our code changes.
WORKDIR /build
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); print(*p['project']['dependencies'], sep='\n')" > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt

COPY README.md LICENSE ./
COPY harness ./harness
RUN pip install --no-deps --constraint constraints.txt .

WORKDIR /opt/pollstorm
COPY locustfiles ./locustfiles

USER pollstorm
CMD ["pollstorm", "--help"]
