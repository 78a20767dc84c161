# geolift as a command in a slim image, without torch (a GPU needs `pip install .[torch]` in an image that has CUDA).
#   docker build -t geolift .
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD":/data geolift fuse hsi.tif msi.tif fused.tif --sensor sentinel2
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY geolift geolift
COPY srf_library srf_library
RUN python -m venv /opt/geolift && /opt/geolift/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.12-slim
# What rasterio's wheels expect of the system, in whatever version Debian has.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 geolift
COPY --from=build /opt/geolift /opt/geolift
ENV PATH=/opt/geolift/bin:$PATH MPLCONFIGDIR=/tmp/matplotlib
USER 1000
WORKDIR /data
ENTRYPOINT ["geolift"]
CMD ["--help"]
