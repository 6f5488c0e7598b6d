//! The `inferdiff` command.

fn main() -> std::process::ExitCode {
    inferdiff::cli::main()
}
