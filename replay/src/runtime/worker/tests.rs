//! Workers on a real interpreter, with an engine that fails when told to.

use std::path::PathBuf;

use bytes::Bytes;
use inferdiff_schemas::{Datatype, Tensor};
use serde_json::json;

use super::super::python;
use super::{Source, Worker};
use crate::runtime::{InferError, OpenError};

const ENGINE: &str = r#"
import os, signal, sys
import numpy as np
from tensors import Named
from worker import Refusal

class Engine:
    def open(self, request):
        print("printed to stdout")
        os.system("echo a child of it prints too")
        os.write(1, b"and the C library\n")
        if request.get("fail"):
            raise Refusal(request["fail"], "as told")
        if request.get("die"):
            print("last words"); sys.stdout.flush(); os.kill(os.getpid(), signal.SIGSEGV)
        return {"model": request["model"]}

    def infer(self, inputs):
        os.write(1, b"noise\n" * 1000)
        word = inputs[0].name
        if word == "die":
            os.kill(os.getpid(), signal.SIGABRT)
        if word == "exit":
            os._exit(3)
        if word == "raise":
            raise ValueError("no such value")
        if word == "nonsense":
            import worker
            for fd in range(3, 32):
                try: os.write(fd, b"\xff" * 64)
                except OSError: pass
        return inputs
"#;

const SOURCES: [Source; 3] = [
    python::PROTOCOL,
    python::TENSORS,
    Source {
        name: "engine",
        text: ENGINE,
    },
];

fn worker() -> Worker {
    Worker::new(python::for_tests(), &SOURCES, Vec::new())
}

fn open(worker: &mut Worker, request: serde_json::Value) -> Result<super::Opened, OpenError> {
    let serde_json::Value::Object(request) = request else {
        unreachable!("a request is an object")
    };
    worker.open(request)
}

fn tensor(name: &str, datatype: Datatype, shape: &[i64], data: &[u8]) -> Tensor {
    Tensor::inline(name, datatype, shape.to_vec(), Bytes::copy_from_slice(data)).unwrap()
}

#[test]
fn every_datatype_rank_and_size_crosses_and_comes_back() {
    let mut worker = worker();
    let opened = open(&mut worker, json!({"model": "m"})).unwrap();
    assert_eq!(opened.answer["model"], "m");
    for line in [
        "printed to stdout",
        "a child of it prints too",
        "and the C library",
    ] {
        assert!(opened.log.contains(line), "{}", opened.log);
    }
    let mut inputs = Vec::new();
    for datatype in Datatype::ALL {
        if let Some(size) = datatype.size() {
            for (shape, n) in [(&[][..], 1), (&[3, 2][..], 6), (&[0, 4][..], 0)] {
                // BOOL is 0 or 1, and every other pattern of bits must survive too.
                let bytes: Vec<u8> = (0..n * size)
                    .map(|i| if datatype == Datatype::Bool { i % 2 } else { 255 - i } as u8)
                    .collect();
                inputs.push(tensor(datatype.name(), datatype, shape, &bytes));
            }
        }
    }
    inputs.push(tensor(
        "BYTES",
        Datatype::Bytes,
        &[2],
        b"\x02\0\0\0\xc3\xa9\0\0\0\0",
    ));
    // Larger than any pipe.
    inputs.push(tensor(
        "large",
        Datatype::Uint8,
        &[5 << 20],
        &vec![7; 5 << 20],
    ));
    assert_eq!(worker.infer(&inputs).unwrap(), inputs);
    assert_eq!(worker.infer(&inputs).unwrap(), inputs);
}

#[test]
fn a_death_is_the_error_of_its_request_and_the_next_one_gets_a_new_process() {
    let mut worker = worker();
    open(&mut worker, json!({"model": "m"})).unwrap();
    let ask =
        |worker: &mut Worker, name: &str| worker.infer(&[tensor(name, Datatype::Int8, &[1], &[1])]);
    let mut before = worker.process_id();
    for (word, said) in [
        ("die", "signal 6 (SIGABRT)"),
        ("exit", "exit code 3"),
        ("nonsense", "went wrong"),
    ] {
        let Err(InferError::Engine(why)) = ask(&mut worker, word) else {
            panic!("{word} did not fail")
        };
        assert!(why.contains(said), "{why}");
        assert!(ask(&mut worker, "x").is_ok());
        assert!(worker.process_id().is_some() && worker.process_id() != before);
        before = worker.process_id();
    }
    let Err(InferError::Engine(why)) = ask(&mut worker, "raise") else {
        panic!("it did not raise")
    };
    assert!(why.contains("ValueError: no such value"), "{why}");
    assert_eq!(worker.process_id(), before, "an exception is no death");
    // Killed from outside between two requests.
    let id = rustix::process::Pid::from_raw(before.unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
    let Err(InferError::Engine(why)) = ask(&mut worker, "x") else {
        panic!("its process is dead")
    };
    assert!(why.contains("signal 9 (SIGKILL)"), "{why}");
    assert!(ask(&mut worker, "x").is_ok());
}

#[test]
fn what_cannot_be_opened_says_why() {
    let told = |request| open(&mut worker(), request).unwrap_err();
    let failed = told(json!({"model": "m", "fail": "failed"}));
    assert_eq!(failed, OpenError::Failed("as told".into()));
    assert!(matches!(
        told(json!({"model": "m", "fail": "unavailable"})),
        OpenError::Unavailable(_)
    ));
    let OpenError::Failed(died) = told(json!({"model": "m", "die": true})) else {
        panic!("a death is no absence")
    };
    assert!(
        died.contains("SIGSEGV") && died.contains("last words"),
        "{died}"
    );
    let nowhere = Worker::new(PathBuf::from("/no/such/python"), &SOURCES, Vec::new());
    let OpenError::Unavailable(why) = open(&mut { nowhere }, json!({})).unwrap_err() else {
        panic!("no interpreter is an absence")
    };
    assert!(why.contains("/no/such/python"), "{why}");
    const LACKS: [Source; 3] = [
        python::PROTOCOL,
        python::TENSORS,
        Source {
            name: "engine",
            text: "import no_such_package",
        },
    ];
    let mut lacks = Worker::new(python::for_tests(), &LACKS, Vec::new());
    let OpenError::Unavailable(why) = open(&mut lacks, json!({})).unwrap_err() else {
        panic!("a missing package is an absence")
    };
    assert!(
        why.contains("no_such_package") && why.contains("python"),
        "{why}"
    );
}
