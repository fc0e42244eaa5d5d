use super::*;
use crate::client::ClientKey;
use crate::pick::{Ask, Pick};
use crate::region::Origin;
use remoteingress_config::pool_status::{PickReason, TargetState};
use remoteingress_config::pools::PoolTarget;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn pools(text: &str) -> Pools {
    let params = format!(r#"{{ "pools": {text} }}"#);
    let params = serde_json::from_str(&params).unwrap();
    remoteingress_config::pools::parse_pools(&params, false).unwrap()
}

fn row(id: &str, host: &str) -> Candidate {
    let target = format!(r#"{{ "id": "{id}", "host": "{host}", "port": 80, "region": "sa" }}"#);
    let target: PoolTarget = serde_json::from_str(&target).unwrap();
    Candidate {
        source: TargetSource::RoutingDb,
        ..Candidate::from(&target)
    }
}

fn set(text: &str) -> PoolSet {
    let mut set = PoolSet::new(HashSeed(1));
    set.set_config(pools(text));
    set.assemble(Moment(0));
    set
}

#[test]
fn what_a_change_doesnt_name_isnt_touched() {
    let mut set =
        set(r#"{ "a": { "targets": [{ "host": "x" }] }, "b": { "targets": [{ "host": "y" }] } }"#);
    let before = set.live();
    let targets = r#"{ "targets": [{ "host": "y" }, { "host": "z" }] }"#;
    set.set_config(pools(&format!(
        r#"{{ "a": {{ "targets": [{{ "host": "x" }}] }}, "b": {targets}, "c": {{}} }}"#
    )));
    let Assembled {
        change, refused, ..
    } = set.assemble(Moment(1));
    assert!(refused.is_empty());
    let names = |names: &[&str]| names.iter().map(|text| name(text)).collect::<Vec<_>>();
    assert_eq!(change.unchanged, names(&["a"]));
    assert_eq!(change.changed, names(&["b"]));
    assert_eq!(change.added, names(&["c"]));
    let after = set.live();
    assert!(Arc::ptr_eq(&before["a"], &after["a"]));
    // The target that stays is the same one, with its number and counts.
    let number = |live: &HashMap<Name, Arc<LivePool>>| live["b"].plan.entries()[0].member.number();
    assert_eq!(number(&before), number(&after));
    set.set_config(Pools::new());
    assert_eq!(
        set.assemble(Moment(2)).change.removed,
        names(&["a", "b", "c"])
    );
    assert!(set.live().is_empty());
}

#[test]
fn rows_belong_to_their_app_and_all_of_them_to_the_star() {
    let mut set = set(r#"{ "web": { "targets": [{ "id": "r1", "host": "x" }] } }"#);
    set.set_rows(vec![
        (Some(name("web")), row("r1", "10.0.0.1")),
        (Some(name("web")), row("r2", "10.0.0.2")),
        (Some(name("dns")), row("r3", "10.0.0.3")),
        (None, row("r4", "10.0.0.4")),
    ]);
    let Assembled {
        change, refused, ..
    } = set.assemble(Moment(1));
    assert_eq!(change.added, [name("dns")]);
    // The configured one came first.
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].id.as_str(), refused[0].source),
        ("r1", TargetSource::RoutingDb)
    );
    let ids = |set: &PoolSet, pool: &str| {
        let live = set.live();
        let targets = live[pool].destinations.iter();
        targets
            .map(|target| target.id.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&set, "web"), ["r1", "r2"]);
    assert_eq!(
        set.live()["dns"].config.strategy,
        remoteingress_config::pools::Strategy::Geo
    );
    set.set_named([name("*")].into(), BTreeSet::new());
    assert_eq!(set.assemble(Moment(2)).change.added, [name("*")]);
    assert_eq!(ids(&set, "*"), ["r1", "r2", "r3", "r4"]);
}

#[test]
fn a_row_may_start_slower_than_its_pool() {
    let mut set = set("{}");
    let mut rows = vec![(Some(name("web")), row("r1", "10.0.0.1"))];
    set.set_rows(rows.clone());
    set.assemble(Moment(0));
    let mut slow = row("r2", "10.0.0.2");
    slow.slow_start = Some(Duration::from_secs(100));
    rows.push((Some(name("web")), slow));
    rows.push((Some(name("web")), row("r3", "10.0.0.3")));
    set.set_rows(rows);
    set.assemble(Moment(0));
    let live = set.live();
    let told = status(&live["web"], set.regions(), Moment(50_000));
    let weights: Vec<f64> = told
        .targets
        .iter()
        .map(|target| target.effective_weight)
        .collect();
    assert_eq!(weights, [1.0, 0.55, 1.0]);
}

#[test]
fn an_operators_word_outlives_changes_and_beats_the_row() {
    let mut set = set("{}");
    let mut rows = vec![(Some(name("web")), row("r1", "10.0.0.1"))];
    set.set_rows(rows.clone());
    set.assemble(Moment(0));
    assert!(set.set_admin(&name("web"), &name("r1"), TargetAdmin::Drain));
    assert!(!set.set_admin(&name("web"), &name("r2"), TargetAdmin::Drain));
    assert!(!set.set_admin(&name("dns"), &name("r1"), TargetAdmin::Drain));
    let state = |set: &PoolSet| {
        let live = set.live();
        status(&live["web"], set.regions(), Moment(1)).targets[0].state
    };
    assert_eq!(state(&set), TargetState::Drain);
    rows[0].1.weight = 7;
    set.set_rows(rows.clone());
    set.assemble(Moment(1));
    assert_eq!(state(&set), TargetState::Drain);
    set.set_rows(Vec::new());
    set.assemble(Moment(1));
    set.set_rows(rows.clone());
    set.assemble(Moment(1));
    assert_eq!(state(&set), TargetState::Drain);
    set.set_admin(&name("web"), &name("r1"), TargetAdmin::Active);
    rows[0].1.is_healthy = false;
    set.set_rows(rows.clone());
    set.assemble(Moment(1));
    assert_eq!(state(&set), TargetState::Down);
    rows[0].1.is_healthy = true;
    set.set_rows(rows);
    set.assemble(Moment(1));
    assert_eq!(state(&set), TargetState::Up);
}

#[test]
fn what_is_told_is_what_picks_see() {
    let mut set = set(r#"{ "web": { "strategy": "geo", "targets": [
            { "id": "eu", "host": "a", "region": "EU", "softLimit": 10 },
            { "id": "sa", "host": "b", "region": "sa", "country": "br", "hardLimit": 1 },
            { "id": "old", "host": "c", "weight": 0 } ] } }"#);
    set.set_geo(&GeoConfig::default(), RegionName::new("eu").as_ref());
    let live = set.live();
    let (pool, regions) = (&live["web"], set.regions());
    let brazil = Country(*b"BR");
    let ask = |tried| Ask {
        client: ClientKey(1),
        origin: Origin {
            country: Some(brazil),
            region: regions.table().region_of(brazil),
            local: regions.hub(),
        },
        bound: Some(0),
        tried,
        now: Moment(5),
    };
    let first = explain(pool, regions, &ask(&[]), "192.0.2.1".parse().unwrap(), None);
    let order: Vec<_> = first
        .targets
        .iter()
        .map(|target| (target.id.as_str(), target.tier.unwrap(), target.state))
        .collect();
    let expected = [
        ("sa", 0, TargetState::Up),
        ("eu", 2, TargetState::Up),
        ("old", 3, TargetState::Weightless),
    ];
    assert_eq!(order, expected);
    assert_eq!(
        (first.region.as_deref(), first.local_region.as_deref()),
        (Some("sa"), Some("eu"))
    );
    assert_eq!(
        (first.country.as_deref(), first.bound),
        (Some("BR"), Some(name("eu")))
    );
    let _held = Pick::new(
        &pool.plan,
        &Ask {
            bound: None,
            ..ask(&[])
        },
    )
    .take(&mut || 0)
    .unwrap();
    for reason in [PickReason::Tier0, PickReason::Tier0, PickReason::Retry] {
        pool.counts.picks.add(reason);
    }
    let told = status(pool, regions, Moment(5));
    assert_eq!((told.active_streams, told.total_streams), (1, 3));
    let picks = [(PickReason::Tier0, 2), (PickReason::Retry, 1)];
    assert_eq!(told.picks, picks.into());
    let sa = told
        .targets
        .iter()
        .find(|target| target.id.as_str() == "sa")
        .unwrap();
    assert_eq!(
        (sa.state, sa.country.as_deref(), sa.region.as_deref()),
        (TargetState::Full, Some("BR"), Some("sa"))
    );
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(
        serde_json::from_value::<remoteingress_config::pool_status::PoolStatus>(json).unwrap(),
        told
    );
}

#[test]
fn a_later_run_knows_what_an_earlier_one_knew() {
    let text = r#"{ "web": { "affinity": {}, "targets": [{ "id": "a", "host": "x" }, { "id": "b", "host": "y" }] } }"#;
    let mut before = set(text);
    let (web, a, b) = (name("web"), name("a"), name("b"));
    before.set_admin(&web, &a, TargetAdmin::Drain);
    let live = before.live();
    let entry = &live["web"].plan.entries()[1];
    for at in 0..3 {
        let mut slot = entry.member.reserve(0).unwrap();
        slot.failed(Moment(at), 0.5);
    }
    let kept = before.kept(Moment(1_000));
    let mut after = PoolSet::new(HashSeed(1));
    let remembered = |target: &KeptTarget| {
        let known = Remembered {
            said: target.said,
            member: target.member,
            age: Duration::from_secs(2),
        };
        ((target.pool.clone(), target.id.clone()), known)
    };
    let key = BindingKey::new(7, ClientKey(1));
    let bound = ((web.clone(), b.clone()), (key, Duration::from_secs(4)));
    after.remember(kept.iter().map(remembered), [bound], Moment(0));
    // Its pool comes a second later.
    after.set_config(pools(text));
    let assembled = after.assemble(Moment(1_000));
    let number = after.member(&web, &b).unwrap().number();
    let expected = SavedBinding {
        key,
        target: number,
        age: Duration::from_secs(5),
    };
    assert_eq!(assembled.bindings, [expected]);
    let live = after.live();
    let told = status(&live["web"], after.regions(), Moment(1_000));
    let states: Vec<_> = told.targets.iter().map(|target| target.state).collect();
    assert_eq!(states, [TargetState::Drain, TargetState::Ejected]);
    // 10 s from the third failure on, of which 1 s passed before the end and 3 s since.
    assert_eq!(told.targets[1].retry_in_ms, Some(6_002));
    // Each is used once, and what an operator said lasts.
    assert_eq!(after.kept(Moment(1_000))[0].said, TargetAdmin::Drain);
    after.set_config(Pools::new());
    after.assemble(Moment(2_000));
    after.set_config(pools(text));
    assert!(after.assemble(Moment(3_000)).bindings.is_empty());
    let live = after.live();
    let told = status(&live["web"], after.regions(), Moment(3_000));
    let states: Vec<_> = told.targets.iter().map(|target| target.state).collect();
    assert_eq!(states, [TargetState::Drain, TargetState::Up]);
}

#[test]
fn a_pool_has_its_number_from_its_name_alone() {
    let number = |text: &str| set(text).live()["web"].number;
    let alone = number(r#"{ "web": {} }"#);
    assert_eq!(number(r#"{ "a": {}, "web": { "retries": 0 } }"#), alone);
}
