//! What is counted of a node besides what its status has.

pub(super) fn trap_counter(registry: &prometheus::Registry) -> prometheus::IntCounter {
    counter(registry, "amaters_cluster_component_traps_total", "Instances of the component that trapped and were replaced.")
}

pub(super) fn divergence_counter(registry: &prometheus::Registry) -> prometheus::IntCounter {
    counter(
        registry,
        "amaters_cluster_divergences_total",
        "How often what this node holds could not be true beside what another one does: it ends then",
    )
}

fn counter(registry: &prometheus::Registry, name: &str, help: &str) -> prometheus::IntCounter {
    let counter = prometheus::IntCounter::new(name, help).expect("the name is valid");
    // A second node on the same registry shares nothing with the first: its count is just not shown.
    let _ = registry.register(Box::new(counter.clone()));
    counter
}
