//! A value for each pattern of names, and which of them a name fits.

use remoteingress_config::host_name::{HostName, HostPattern};
use std::collections::HashMap;

/// A table of patterns. A name costs one look-up, and two more for each of its labels.
#[derive(Clone, Debug)]
pub struct Hosts<T> {
    exact: HashMap<HostName, T>,
    /// By what stands after the first label.
    children: HashMap<HostName, T>,
    /// By what stands after any labels.
    descendants: HashMap<HostName, T>,
    /// By what stands ahead of the last label.
    top_levels: HashMap<HostName, T>,
    all: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            children: HashMap::new(),
            descendants: HashMap::new(),
            top_levels: HashMap::new(),
            all: None,
        }
    }
}

impl<T> Hosts<T> {
    /// The value of this pattern, which is made if there is none.
    pub fn entry(&mut self, pattern: &HostPattern) -> &mut T
    where
        T: Default,
    {
        let (table, name) = match pattern {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Children(name) => (&mut self.children, name),
            HostPattern::Descendants(name) => (&mut self.descendants, name),
            HostPattern::TopLevels(name) => (&mut self.top_levels, name),
            HostPattern::All => return self.all.get_or_insert_default(),
        };
        table.entry(name.clone()).or_default()
    }

    /// The values of the patterns that a name fits, the most exact one first: the name itself, then wildcards from the
    /// longest to the shortest, then any top level, then `*`. Without a name there is only `*`.
    pub fn matching<'a>(&'a self, name: Option<&'a HostName>) -> impl Iterator<Item = &'a T> {
        let name = name.map(HostName::as_str);
        let exact = name.and_then(|name| self.exact.get(name));
        let wildcards = name.into_iter().flat_map(|name| self.wildcards(name));
        let top_level = name.and_then(|name| {
            let (name, _) = name.rsplit_once('.')?;
            self.top_levels.get(name)
        });
        exact
            .into_iter()
            .chain(wildcards)
            .chain(top_level)
            .chain(&self.all)
    }

    fn wildcards<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a T> {
        let parent = |name: &&'a str| name.split_once('.').map(|(_, parent)| parent);
        let parents = std::iter::successors(parent(&name), parent);
        let mut is_first = true;
        parents.flat_map(move |parent| {
            let is_parent = std::mem::take(&mut is_first);
            let of_children = self.children.get(parent).filter(|_| is_parent);
            of_children.into_iter().chain(self.descendants.get(parent))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(patterns: &[&str]) -> Hosts<String> {
        let mut hosts = Hosts::default();
        for pattern in patterns {
            *hosts.entry(&pattern.parse().unwrap()) = (*pattern).to_owned();
        }
        hosts
    }

    #[test]
    fn the_most_exact_pattern_comes_first() {
        let hosts = hosts(&[
            "*",
            "**.example.com",
            "*.example.com",
            "app.example.com",
            "**.com",
            "*.app.example.com",
            "app.example.*",
        ]);
        let matching = |name: &str| -> Vec<String> {
            let name = HostName::new(name.as_bytes()).unwrap();
            hosts.matching(Some(&name)).cloned().collect()
        };
        assert_eq!(
            matching("app.example.com"),
            [
                "app.example.com",
                "*.example.com",
                "**.example.com",
                "**.com",
                "app.example.*",
                "*"
            ]
        );
        assert_eq!(
            matching("a.app.example.com"),
            ["*.app.example.com", "**.example.com", "**.com", "*"]
        );
        // A wildcard has at least a label.
        assert_eq!(matching("example.com"), ["**.com", "*"]);
        assert_eq!(matching("app.example.net"), ["app.example.*", "*"]);
        assert_eq!(matching("com"), ["*"]);
        assert_eq!(hosts.matching(None).collect::<Vec<_>>(), ["*"]);
    }
}
