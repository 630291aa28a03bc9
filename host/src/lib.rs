//! x
pub mod engine;
pub use engine::COMPONENT;
