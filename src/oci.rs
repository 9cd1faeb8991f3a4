//! Pure conversion: a specification and an image's configuration become an OCI runtime spec.
//!
//! Never touches a container.
