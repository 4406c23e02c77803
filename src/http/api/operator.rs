//! What the operator asks of a node over its unix socket; whoever may open that is the operator.

pub mod framing;
