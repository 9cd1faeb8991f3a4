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

/// The service `patient`, which finishes what it has begun, published on a port; `more` goes to
/// its variables. It may fail its health check soon: `BROKEN "yes"`.
#[must_use]
pub fn patient(image: &str, port: u16, replicas: u32, version: &str, more: &str) -> String {
    format!(
        "app \"patient\"\n\nservice \"patient\" {{\n    image \"{image}\"\n    port 8080\n    \
         replicas {replicas}\n    cpu 0.2\n    memory \"64M\"\n    publish {port}\n    \
         health \"/healthz\" interval=\"500ms\" grace=\"1s\"\n    \
         update max-parallel=2 healthy-deadline=\"3s\"\n    \
         env {{ VERSION \"{version}\"{more} }}\n}}\n"
    )
}

/// A task of busybox with a shell script; `more` are further lines of its block.
#[must_use]
pub fn task(name: &str, image: &str, script: &str, more: &str) -> String {
    format!(
        "task \"{name}\" {{\n    image \"{image}\"\n    cpu 0.05\n    memory \"32M\"\n    \
         command \"sh\" \"-c\" #\"{script}\"#\n    {more}\n}}\n"
    )
}
