//! The process in the metrics, under the names that Prometheus' own clients use.

use std::fmt::Write;

/// Appends what the operating system knows of this process; what it does not tell is left out.
pub(super) fn write(text: &mut String, started: u64) {
    let started = Some(started as f64);
    metric(text, "process_start_time_seconds", "gauge", "Start, in seconds since 1970.", started);
    metric(text, "process_cpu_seconds_total", "counter", "Processor time used.", cpu_seconds());
    metric(text, "process_resident_memory_bytes", "gauge", "Memory in use.", resident_bytes());
    metric(text, "process_open_fds", "gauge", "Open file descriptors.", open_files());
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map(|limit| limit as f64);
    metric(text, "process_max_fds", "gauge", "Most file descriptors that may be open.", limit);
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
}

fn cpu_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((kibibytes << 10) as f64)
}

fn open_files() -> Option<f64> {
    let own = ["/proc/self/fd", "/dev/fd"].iter().find_map(|dir| std::fs::read_dir(dir).ok())?;
    Some(own.count() as f64)
}
