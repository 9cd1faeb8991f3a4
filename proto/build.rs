//! Builds the prost schemas.

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    prost_build::compile_protos(&["proto/log.proto"], &["proto"])?;
    tonic_prost_build::configure()
        .bytes(".mill.peer")
        .compile_protos(&["proto/peer.proto"], &["proto"])
}
