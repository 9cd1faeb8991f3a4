//! The JSON that the API speaks, shared by its server and its clients.
//!
//! Never holds rules, only shapes.
