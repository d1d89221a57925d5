//! Compiles the `.proto` files with a pure-Rust compiler: no system `protoc`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "cofferdam/v1/common.proto",
        "cofferdam/v1/signer.proto",
        "cofferdam/v1/log.proto",
        "cofferdam/v1/officers.proto",
        "cofferdam/v1/watcher.proto",
    ];
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut bytes = Vec::new();
    prost::Message::encode(&descriptors, &mut bytes)?;
    std::fs::write(out.join("descriptors.bin"), bytes)?;
    tonic_prost_build::configure().build_transport(true).compile_fds(descriptors)?;
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
