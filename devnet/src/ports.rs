//! Free local ports for services under test. Never binds anything but the loopback address.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// Returns a port nobody listens on. It lies below the range the kernel takes outgoing ports from,
/// so that a client's connection cannot land on it before the service binds it.
pub fn free() -> Result<u16> {
    for attempt in 0..1000_u32 {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        hasher.write_u32(attempt);
        let port = u16::try_from(hasher.finish() % 16_000)?.saturating_add(16_500);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 16500 and 32499 on 127.0.0.1")
}
