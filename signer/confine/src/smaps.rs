//! What the kernel says of memory, for tests of what is kept in it.

/// The kernel's own words about the mapping that holds this address.
pub(crate) fn flags(address: usize) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        if let Some((from, to)) = line.split_once(' ').and_then(|(r, _)| r.split_once('-')) {
            let range = [from, to].map(|end| usize::from_str_radix(end, 16));
            if let [Ok(from), Ok(to)] = range {
                inside = (from..to).contains(&address);
            }
        }
        if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
            return flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    Vec::new()
}
