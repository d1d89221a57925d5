//! Addresses from which a client came lately that had a good certificate: while strangers crowd in, their next handshake is not the
//! one that gives way. It never keeps more than so many, never lets one client take the others' room, and outlives no restart.

use std::net::IpAddr;

/// So many in all.
const ALL_MAX: usize = 1_024;
/// Those of one client.
const OF_EACH_MAX: usize = 32;

/// Who came from where. The latest is last.
#[derive(Debug, Default)]
pub(crate) struct Known(Vec<(String, IpAddr)>);

impl Known {
    /// This client came from there just now.
    pub(crate) fn came(&mut self, client: &str, from: IpAddr) {
        let is_of = |one: &(String, IpAddr)| one.0 == client;
        self.0.retain(|one| !(is_of(one) && one.1 == from));
        let own = self.0.iter().filter(|one| is_of(one)).count();
        let goes = match own >= OF_EACH_MAX {
            true => self.0.iter().position(is_of),
            false => (self.0.len() >= ALL_MAX).then_some(0),
        };
        if let Some(oldest) = goes {
            self.0.remove(oldest);
        }
        self.0.push((client.to_owned(), from));
    }

    /// Whether anybody did.
    pub(crate) fn is(&self, from: IpAddr) -> bool {
        self.0.iter().any(|one| one.1 == from)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: usize) -> IpAddr {
        Ipv4Addr::from(u32::try_from(number).unwrap()).into()
    }

    #[test]
    fn a_client_has_so_many_and_leaves_others_theirs() {
        let mut known = Known::default();
        known.came("modest", address(0));
        for number in 1..10_000 {
            known.came("greedy", address(number));
        }
        assert!(known.is(address(0)));
        assert!(!known.is(address(9_999 - OF_EACH_MAX)));
        assert!(known.is(address(10_000 - OF_EACH_MAX)));
        assert_eq!(known.0.len(), OF_EACH_MAX + 1);
    }

    #[test]
    fn of_all_the_latest_stay() {
        let mut known = Known::default();
        for number in 0..ALL_MAX {
            known.came(&format!("client-{number}"), address(number));
        }
        // It came again, so another is the oldest.
        known.came("client-0", address(0));
        known.came("new", address(ALL_MAX));
        assert_eq!(known.0.len(), ALL_MAX);
        assert!(known.is(address(0)) && known.is(address(ALL_MAX)));
        assert!(!known.is(address(1)));
    }
}
