//! Libraries of functions are read of primaries that have some, with their code, and not at every look.

use shardwright_engine::{Access, Endpoint};
use shardwright_planner::{Desired, Limits};
use shardwright_runtime::{Guest, Keeper, Links};
use shardwright_testkit::{Cluster, Server, each_engine};
use shardwright_topology::{FunctionLibraries, Observed};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The libraries that were read of a server.
fn libraries(o: &Observed, server: &Server) -> Outcome<FunctionLibraries> {
    let mut views = o.views();
    let (_, view) = views
        .find(|(s, _)| s.name.0 == server.address())
        .ok_or("it is not reachable")?;
    let read = view.functions().ok_or("it has no functions")?;
    Ok(read.known().copied().cloned().ok_or("they were not read")?)
}

/// How many times a server was asked for them.
async fn asked(server: &Server) -> Outcome<usize> {
    let field = server
        .field(&["INFO", "commandstats"], "cmdstat_function|list")
        .await?;
    let calls = field.as_deref().and_then(|f| f.strip_prefix("calls="));
    let calls = calls.and_then(|f| f.split(',').next()?.parse().ok());
    Ok(calls.unwrap_or(0))
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn libraries_are_compared_by_code_and_read_seldom(engine) {
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let endpoint: Endpoint = cluster[0].address().parse()?;
        let guest = Guest::of(&[endpoint]).await?;
        let links = Links::new(Access::default(), None);
        let mut keeper = Keeper::new(guest, links, Desired::guest(), Limits::default());
        let load = async |server: usize, number: u8| {
            let code = format!(
                "#!lua name=lib\nredis.register_function('one', function() return {number} end)"
            );
            cluster[server].ask::<String>(&["FUNCTION", "LOAD", "REPLACE", &code]).await
        };
        let observed = keeper.observe().await?;
        assert!(libraries(&observed, &cluster[0])?.is_empty());
        assert_eq!(asked(&cluster[0]).await?, 0, "it counts none");
        for (server, number) in [(0, 1), (1, 1), (2, 2)] {
            load(server, number).await?;
        }
        for _ in 0..5 {
            let observed = keeper.observe().await?;
            let all = [0, 1, 2].map(|server| libraries(&observed, &cluster[server]));
            let [first, second, third] = all;
            let (first, second, third) = (first?, second?, third?);
            assert_eq!(first.keys().collect::<Vec<_>>(), ["lib"]);
            assert!(first == second && first != third, "{first:?} {second:?} {third:?}");
        }
        assert_eq!(asked(&cluster[0]).await?, 1, "it was read once");
        // Another number is news.
        let other = "#!lua name=other\nredis.register_function('two', function() return 2 end)";
        cluster[0].ask::<String>(&["FUNCTION", "LOAD", other]).await?;
        assert_eq!(libraries(&keeper.observe().await?, &cluster[0])?.len(), 2);
        Ok(())
    }
}
