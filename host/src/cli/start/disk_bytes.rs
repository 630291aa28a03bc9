//! How much of the disk a node takes, as a metric.

use std::path::{Path, PathBuf};

use prometheus::Registry;

/// Counted when somebody asks.
pub(super) struct DiskBytes {
    dirs: [(&'static str, PathBuf); 2],
    gauges: prometheus::IntGaugeVec,
}

impl DiskBytes {
    pub(super) fn register(registry: &Registry, data_dir: &Path) -> prometheus::Result<()> {
        let dirs = ["wal", "snapshots"].map(|kind| (kind, data_dir.join(kind)));
        let help = "Bytes of the node's files, by what is in them; files that were prepared ahead count in full";
        let gauges = prometheus::IntGaugeVec::new(prometheus::Opts::new("amaters_cluster_disk_bytes", help), &["kind"])?;
        registry.register(Box::new(Self { dirs, gauges }))
    }
}

impl prometheus::core::Collector for DiskBytes {
    fn desc(&self) -> Vec<&prometheus::core::Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        for (kind, dir) in &self.dirs {
            // What goes away meanwhile takes no room any more; what can't be seen is not counted.
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let bytes: u64 = entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum();
            self.gauges.with_label_values(&[kind]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        self.gauges.collect()
    }
}
