//! Access control.

use shardwright_testkit::{Error, Kind, Server, each_engine, until};

use crate::scene::SOON;

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_acl_file_comment_lines(engine) {
        let lines = ["# a comment", "user default on nopass ~* &* +@all"];
        let started = Server::builder(&engine).acl(lines).start();
        match started {
            Err(Error::Died { log, .. }) => {
                assert!(log.contains("should start with user keyword"), "{log}");
            }
            other => return Err(format!("it takes comment lines: {other:?}").into()),
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_acl_changes_are_live(engine) {
        let server = Server::builder(&engine).acl(["user default on nopass ~* &* +@all"]).start()?;
        let login = ["AUTH", "worker", "pw"];
        assert!(server.ask::<String>(&login).await.is_err());
        server.ask::<()>(&["ACL", "SETUSER", "worker", "on", ">pw", "+ping"]).await?;
        server.ask::<()>(&login).await?;
        let text = "user default on nopass ~* &* +@all\nuser worker on >other +ping\n";
        std::fs::write(server.acl_file(), text)?;
        server.ask::<()>(&["ACL", "LOAD"]).await?;
        assert!(server.ask::<String>(&login).await.is_err());
        server.ask::<()>(&["AUTH", "worker", "other"]).await?;
        server.ask::<()>(&["CONFIG", "SET", "masteruser", "worker", "masterauth", "other"]).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_acl_load_disconnects_named_users(engine) {
        let lines = ["user default on nopass ~* &* +@all", "user worker on >pw +@all"];
        let server = Server::builder(&engine).acl(lines).start()?;
        let mut worker = server.connection().await?;
        redis::cmd("AUTH").arg(&["worker", "pw"]).exec_async(&mut worker).await?;
        server.ask::<()>(&["ACL", "LOAD"]).await?;
        let ping = || {
            let mut worker = worker.clone();
            async move { redis::cmd("PING").query_async::<String>(&mut worker).await }
        };
        match engine.kind {
            // Although nothing about the user changed.
            Kind::Redis => {
                until("it is sent away", SOON, || async {
                    match ping().await {
                        Err(error) if error.is_io_error() => Ok(()),
                        other => Err(format!("{other:?}")),
                    }
                })
                .await?;
            }
            Kind::Valkey => assert_eq!(ping().await?, "PONG"),
        }
        Ok(())
    }
}
