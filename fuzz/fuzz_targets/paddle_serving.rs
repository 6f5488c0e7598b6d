#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    inferdiff_schemas::fuzz::run("paddle_serving", data);
});
