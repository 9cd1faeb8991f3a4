//! Tests of root with scripted children.
