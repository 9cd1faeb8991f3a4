//! Small files for `up`, each a service of the test images.
//!
//! Never deploys anything.

/// The service `hello` on port 8080.
#[must_use]
pub fn hello(image: &str, replicas: u32) -> String {
    format!(
        "app \"hello\"\n\nservice \"hello\" {{\n    image \"{image}\"\n    port 8080\n    \
         replicas {replicas}\n    cpu 0.05\n    memory \"32M\"\n    \
         health \"/\" interval=\"1s\"\n}}\n"
    )
}

/// A service without a port, with further lines in its block.
#[must_use]
pub fn service(name: &str, image: &str, more: &str) -> String {
    format!(
        "app \"{name}\"\n\nservice \"{name}\" {{\n    image \"{image}\"\n    cpu 0.05\n    \
         memory \"32M\"\n    {more}\n}}\n"
    )
}
