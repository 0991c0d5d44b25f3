//! The start: judge, hold if need be, become the server.

use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::{Options, Server};
use crate::ballast::{self, Ballast};
use crate::conf::Conf;
use crate::disk;
use crate::gate::{self, Told};
use crate::{Error, Log, data};

/// What `auto` looks for. Images of Valkey carry both names, and mean the same program.
const PROGRAMS: [&str; 2] = ["valkey-server", "redis-server"];

/// Becomes the server, under the same process id; returns only where that failed, or where the gate was told to stop.
///
/// The server's working directory is the data directory, as a configuration without `dir` expects.
///
/// # Errors
/// Where the configuration or the data directory can't be read, the gate can't listen, or the server can't be
/// started.
pub fn run(options: &Options, server: &Server, log: Log) -> Result<(), Error> {
    let server = settle(server)?;
    let conf = read_conf(&server)?;
    let dir = match &conf.dir {
        Some(dir) => options.data.join(dir),
        None => options.data.clone(),
    };
    let disk = disk::judge(&data::look(&options.data, &dir, &conf)?);
    log(&format!("the disk is {disk}"));
    if disk.is_held() {
        match gate::hold(&disk, options, log)? {
            Told::Release => {}
            Told::Afresh => {
                let kept = data::set_aside(&dir, &conf.nodes_file)?;
                log(&format!(
                    "what was in {} is kept in {}",
                    dir.display(),
                    kept.display()
                ));
            }
            Told::Stop => return Ok(()),
        }
    }
    data::clear_marks(&options.data)?;
    tell_ballast(ballast::prepare(&dir), &dir, log);
    log(&format!("becoming {}", server.program.display()));
    let Err(error) = exec(&server, &options.data);
    Err(error)
}

fn tell_ballast(ballast: Ballast, dir: &Path, log: Log) {
    let path = dir.join(ballast::NAME);
    let path = path.display();
    match ballast {
        Ballast::Kept | Ballast::Made => {}
        Ballast::NoRoom => log(&format!("too little room on the disk for {path}")),
        Ballast::Released => log(&format!(
            "the disk is full: removed {path}, so that the server can start; make room soon"
        )),
        Ballast::Full => log(&format!(
            "the disk is full and there is no {path} to remove; the server may not start"
        )),
        Ballast::Failed(error) => log(&format!("cannot keep {path}: {error}")),
    }
}

/// Finds the program of `auto`, and makes paths absolute, for the server starts in another directory.
fn settle(server: &Server) -> Result<Server, Error> {
    let mut server = server.clone();
    if server.program == "auto" {
        let path = env::var_os("PATH");
        server.program = path
            .and_then(|path| find(&path))
            .ok_or(Error::NoServer)?
            .into();
    } else if server.program.to_string_lossy().contains('/') {
        server.program = absolute(&server.program)?;
    }
    if conf_file(&server).is_some() {
        server.args[0] = absolute(&server.args[0])?;
    }
    Ok(server)
}

fn absolute(path: &OsStr) -> Result<OsString, Error> {
    let path = Path::new(path);
    std::path::absolute(path)
        .map(PathBuf::into_os_string)
        .map_err(Error::file("find", path))
}

fn find(path: &OsStr) -> Option<PathBuf> {
    let executable = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 > 0)
    };
    PROGRAMS.iter().find_map(|program| {
        env::split_paths(path)
            .map(|folder| folder.join(program))
            .find(executable)
    })
}

/// As the server has it: the first argument, unless it is an option.
fn conf_file(server: &Server) -> Option<&Path> {
    let first = server.args.first()?;
    let option = first.to_string_lossy().starts_with('-');
    (!option).then(|| Path::new(first))
}

fn read_conf(server: &Server) -> Result<Conf, Error> {
    let args: Vec<String> = server
        .args
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let text = match conf_file(server) {
        Some(path) => fs::read_to_string(path).map_err(Error::file("read", path))?,
        None => String::new(),
    };
    Ok(Conf::read(&text, &args))
}

fn exec(server: &Server, data: &Path) -> Result<Infallible, Error> {
    let source: io::Error = Command::new(&server.program)
        .args(&server.args)
        .current_dir(data)
        // A locale that the image does not have ends Redis 7.4 and Valkey 8 at once.
        .env("LC_ALL", "C")
        .exec();
    Err(Error::Exec {
        program: server.program.to_string_lossy().into_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn auto_takes_what_can_be_run_and_valkey_first() {
        let (one, two) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let path = env::join_paths([one.path(), two.path()]).expect("no colons");
        assert_eq!(find(&path), None);
        let make = |file: &Path, mode: u32| {
            fs::write(file, "").expect("written");
            fs::set_permissions(file, Permissions::from_mode(mode)).expect("set");
        };
        let (redis, valkey) = (
            one.path().join("redis-server"),
            two.path().join("valkey-server"),
        );
        make(&redis, 0o755);
        make(&valkey, 0o644);
        assert_eq!(find(&path), Some(redis));
        make(&valkey, 0o755);
        assert_eq!(find(&path), Some(valkey));
    }

    #[test]
    fn the_configuration_is_the_first_argument_unless_it_is_an_option() {
        let server = |args: &[&str]| Server {
            program: "x".into(),
            args: args.iter().map(OsString::from).collect(),
        };
        let named = server(&["/etc/redis.conf", "--port", "1"]);
        assert_eq!(conf_file(&named), Some(Path::new("/etc/redis.conf")));
        assert_eq!(conf_file(&server(&["--appendonly", "yes"])), None);
        assert_eq!(conf_file(&server(&[])), None);
        let said = read_conf(&server(&["/none/redis.conf"])).expect_err("there is none");
        assert!(said.to_string().contains("/none/redis.conf"), "{said}");
    }
}
