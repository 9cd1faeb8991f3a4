//! Builds the prost schemas, and sets how the program is linked.

fn main() -> std::io::Result<()> {
    // At a fixed address. Otherwise the loader writes to some 2 MB of tables at each start, which
    // each logger then has for itself, and each call of the runc wrapper waits for.
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rerun-if-changed=proto");
    prost_build::compile_protos(&["proto/log.proto"], &["proto"])?;
    tonic_prost_build::configure()
        .bytes(".mill.peer")
        .compile_protos(&["proto/peer.proto"], &["proto"])
}
