//! stub
pub mod records;
