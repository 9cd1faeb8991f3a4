//! Builds the prost schemas.

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=proto/log.proto");
    prost_build::compile_protos(&["proto/log.proto"], &["proto"])
}
