# Build: docker build -t estuary .
# Run:   docker run -p 8080:8080 -v estuary:/data estuary
# Add:   docker exec -i CONTAINER estuary add - < photo.jpg

FROM rust:1-slim-trixie AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY src src
RUN cargo build --release --locked

FROM debian:trixie-slim
COPY --from=build /src/target/release/estuary /usr/local/bin/estuary
# A volume that is made from this directory has its owner.
RUN useradd --system --uid 10001 --no-create-home estuary && install -d -o estuary -m 700 /data
USER estuary
VOLUME /data
ENV ESTUARY_DATA_DIR=/data \
    ESTUARY_GATEWAY__LISTEN=0.0.0.0:8080
# The gateway alone (with gateway.tls_listen, publish its port too): the API, the console and the metrics stay on the container's own loopback.
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/local/bin/estuary", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/estuary"]
