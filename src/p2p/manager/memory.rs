//! How much memory this process has, and may have.

use std::time::Duration;

use tokio::time::Instant;

/// Least time between two looks.
const LOOK_EACH: Duration = Duration::from_secs(1);
/// Of the machine's memory, what is used at most where nothing is configured, in percent.
const SHARE_PERCENT: u64 = 80;

/// Watches this process' resident memory.
#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: u64,
    looked: Option<Instant>,
    short: bool,
}

impl Memory {
    /// At most so many bytes; unset, a share of what the machine or the container has.
    pub(super) fn new(bytes_max: Option<u64>) -> Self {
        let share = || available().map(|bytes| bytes / 100 * SHARE_PERCENT);
        let bytes_max = bytes_max.or_else(share).unwrap_or(u64::MAX);
        Self { bytes_max, looked: None, short: false }
    }

    /// Whether there is too little left for new connections; looks at most once a second.
    pub(super) fn is_short(&mut self, now: Instant) -> bool {
        if self.looked.is_none_or(|looked| now - looked >= LOOK_EACH) {
            self.looked = Some(now);
            self.short = resident().is_some_and(|bytes| bytes > self.bytes_max);
        }
        self.short
    }
}

/// Resident memory of this process, in bytes; none where the system does not say.
fn resident() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// What the machine has, or the container this runs in, in bytes.
fn available() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = info.as_deref().and_then(total);
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    // Without a bound it says "max".
    let container = container.and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(container).min()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_measured_at_most_each_second_and_told_against_its_bound() {
        let now = Instant::now();
        let mut memory = Memory::new(Some(1));
        assert_eq!(memory.is_short(now), resident().is_some());
        memory.bytes_max = u64::MAX;
        assert_eq!(memory.is_short(now), resident().is_some(), "it does not look again yet");
        assert!(!memory.is_short(now + LOOK_EACH));
        assert!(!Memory::new(None).is_short(now), "by default there is room");
    }

    #[test]
    fn the_machine_says_what_it_has() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(total("nothing of the kind"), None);
    }
}
