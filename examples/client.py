"""The library: submit a flow, take results as they come, hear of events. Needs a running `gemflowd`.

python client.py
"""

from gemflowctl import Client, RefusedByDaemon


def main() -> None:
    with Client() as gemflow:
        stop = gemflow.on("task.succeeded", lambda event: print("event:", event["task"], event["type"]))

        flow = gemflow.submit_batch(
            [
                {"id": "a", "type": "sleep", "data": {"seconds": 0.3}},
                {"id": "b", "type": "sleep", "data": {"seconds": 0.1}},
                {"id": "c", "type": "echo", "data": {"slept": "{{ deps.a.seconds }}"}, "deps": ["a", "b"]},
            ],
            name="example",
        )
        for result in flow.as_completed():
            print(result.id, result.value if result.ok else result.error)

        # A later task may wait for one of an earlier flow.
        last = gemflow.submit("echo", {"text": "done"}, deps=[{"flow": flow.number, "id": "c"}], priority=8)
        print(last.result(timeout=30).unwrap())

        try:
            gemflow.submit("no-such-type")
        except RefusedByDaemon as refusal:
            print(refusal.code, refusal.path)
        stop()


if __name__ == "__main__":
    main()
