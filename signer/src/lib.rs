//! stub
pub mod records;
pub mod token;
pub mod log;
pub mod init;
