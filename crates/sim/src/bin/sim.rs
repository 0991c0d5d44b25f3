fn main() {
    let mut args = std::env::args().skip(1);
    let seed: u64 = args.next().and_then(|a| a.parse().ok()).expect("seed");
    let n: u64 = args.next().and_then(|a| a.parse().ok()).expect("n");
    let t = std::time::Instant::now();
    if n == 0 {
        let o = shardwright_sim::play(seed, true);
        for l in &o.lines {
            println!("{l}");
        }
        println!(
            "{:?} {:?} {} {}",
            o.violations, o.steps, o.ms_to_rest, o.passes
        );
        return;
    }
    for s in seed..seed + n {
        let o = shardwright_sim::play(s, false);
        if !o.violations.is_empty() {
            println!("{s} {:?}", o.violations);
        }
    }
    println!("{:?}", t.elapsed());
}
