//! How much memory there is.

#![expect(clippy::disallowed_methods, reason = "this is the place they are kept for")]

/// Bytes of memory that this process may use: the machine's, or those of its control group.
pub fn memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").as_deref().and_then(mem_total);
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

/// proc(5), meminfo: `MemTotal:       24576000 kB`.
fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says() {
        assert_eq!(mem_total("MemTotal:       24576 kB\nMemFree:         1 kB\n"), Some(24 << 20));
        for text in
            ["", "MemFree: 1 kB", "MemTotal:", "MemTotal: 1", "MemTotal: x kB", "MemTotal: 99999999999999999999 kB"]
        {
            assert_eq!(mem_total(text), None, "{text}");
        }
        assert!(memory().is_none_or(|bytes| bytes > 1 << 20));
    }
}
