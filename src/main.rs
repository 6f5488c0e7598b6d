//! The `inferdiff` command.

// Recording allocates on one thread and frees on another, in sizes from a header to a tensor; glibc's
// allocator spends its time consolidating there (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    inferdiff::cli::main()
}
