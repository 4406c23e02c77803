use tokio::time::Instant;

/// What one request brings along on its way through retrieval.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    deadline: Instant,
    local_only: bool,
}

impl Session {
    /// A session that ends at `deadline`.
    #[must_use]
    pub fn new(deadline: Instant) -> Self {
        Self { deadline, local_only: false }
    }

    /// The same, but no source is asked: memory and disk only (`only-if-cached`).
    #[must_use]
    pub fn local_only(self) -> Self {
        Self { local_only: true, ..self }
    }

    /// When the request no longer waits for anything.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether no source may be asked.
    #[must_use]
    pub fn is_local_only(&self) -> bool {
        self.local_only
    }
}
