//! A primary that is frozen while another takes its place, and goes on.

use std::io::{Read, Write};
use std::net::TcpStream;

use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{Cluster, Error, Server, each_engine, until};

use crate::scene::{SOON, counted, until_role, until_synced};

/// So many clients have a write each in a socket of the frozen process.
const CLIENTS: usize = 10;
/// How long the copy of a key takes: with the keys below, seconds.
const KEY_DELAY_US: &str = "20000";
const KEYS: usize = 150;

/// A field of `INFO replication`, which is there.
async fn told(server: &Server, name: &str) -> Result<String, Error> {
    let told = server.field(&["INFO", "replication"], name).await?;
    Ok(told.unwrap_or_else(|| format!("no {name}")))
}

/// The same, as a number.
async fn number(
    server: &Server,
    name: &str,
) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    Ok(told(server, name).await?.parse()?)
}

/// A connection that the server has accepted: what comes by it is read before what comes later by others.
fn accepted(server: &Server) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(&command(&["PING"]))?;
    answer(&mut stream)?;
    Ok(stream)
}

/// A command as the engines read it, and as they pass a write on.
fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}

/// The first answer.
fn answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = [0; 128];
    let read = stream.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_a_frozen_primary_takes_what_waits_and_shows_its_stream_until_it_has_copied(engine) {
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let (old, new) = (&cluster[0], &cluster[3]);
        let tag = tag_for(cluster.slots(0).0);
        for key in 0..KEYS {
            old.ask::<()>(&["SET", &format!("{{{tag}}}:{key}"), "v"]).await?;
        }
        assert_eq!(old.ask::<u32>(&["WAIT", "1", "2000"]).await?, 1);
        new.ask::<()>(&["CONFIG", "SET", "rdb-key-save-delay", KEY_DELAY_US]).await?;
        let stream = told(old, "master_replid").await?;

        let names: Vec<String> = (0..CLIENTS).map(|n| format!("{{{tag}}}:late:{n}")).collect();
        let mut clients = names
            .iter()
            .map(|_| accepted(old))
            .collect::<Result<Vec<_>, _>>()?;
        old.freeze()?;
        for (client, name) in clients.iter_mut().zip(&names) {
            client.write_all(&command(&["SET", name, "v"]))?;
        }
        new.ask::<()>(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await?;
        until_role(new, "master").await?;
        // It names the first offset that it did not have of the stream that it continues.
        assert_eq!(told(new, "master_replid2").await?, stream);
        let until_offset = number(new, "second_repl_offset").await? - 1;
        old.thaw()?;

        let answers: Vec<String> = clients.iter_mut().map(answer).collect::<Result<_, _>>()?;
        let refused = |said: &&String| said.starts_with("-MOVED") || said.starts_with("-CLUSTERDOWN");
        let taken = answers.iter().filter(|said| *said == "+OK\r\n").count();
        assert_eq!(taken + answers.iter().filter(refused).count(), CLIENTS, "{answers:?}");
        assert!(taken > 0, "{answers:?}");
        counted("writes that a frozen primary took", &engine, taken as u64);

        // As a replica it writes nothing more; its stream is its own until it has copied the other's data.
        until_role(old, "slave").await?;
        let copying = || async {
            match told(old, "master_sync_in_progress").await {
                Ok(value) if value == "1" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        until("it takes a full copy", SOON, copying).await?;
        assert_eq!(told(old, "master_replid").await?, stream);
        let end = number(old, "master_repl_offset").await?;
        let least = taken * command(&["SET", &names[0], "v"]).len();
        assert!(end - until_offset >= least as u64, "{end} {until_offset} {least}");
        // The new primary's log tells it too, for whoever did not look in time.
        let (asked, most) = (end + 1, until_offset + 1);
        let refusal = format!("Requested offset for second ID was {asked}, but I can reply up to {most}");
        assert!(new.log().contains(&refusal), "no {refusal:?}: {}", new.log());

        until_synced(old).await?;
        assert_ne!(told(old, "master_replid").await?, stream);
        let before = told(old, "master_replid2").await?;
        assert!(before.bytes().all(|digit| digit == b'0'), "a full copy continues nothing: {before}");
        for (name, said) in names.iter().zip(&answers) {
            let kept: Option<String> = new.ask(&["GET", name]).await?;
            assert_eq!(kept, None, "{name}: {said}");
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_a_former_primary_that_wrote_nothing_more_continues_its_stream(engine) {
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let (old, new) = (&cluster[0], &cluster[3]);
        let name = format!("{{{}}}:k", tag_for(cluster.slots(0).0));
        old.ask::<()>(&["SET", &name, "v"]).await?;
        assert_eq!(old.ask::<u32>(&["WAIT", "1", "2000"]).await?, 1);
        let stream = told(old, "master_replid").await?;
        old.freeze()?;
        new.ask::<()>(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await?;
        until_role(new, "master").await?;
        old.thaw()?;
        until_role(old, "slave").await?;
        until_synced(old).await?;
        assert_eq!(told(old, "master_replid").await?, told(new, "master_replid").await?);
        assert_eq!(told(old, "master_replid2").await?, stream, "no full copy came between");
        Ok(())
    }
}
