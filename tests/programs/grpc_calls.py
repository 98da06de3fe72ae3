"""gRPC of all four kinds, by the common library: `serve` prints its port; `call ADDRESS` prints what each call came to, as JSON."""

import json
import sys
import threading
from concurrent import futures

import grpc

NAME = "test.Echo"
left = threading.Event()


def unary(request, context):
    context.set_trailing_metadata((("x-kind", "unary"),))
    return b"one " + request


def server_stream(request, context):
    for number in range(100):
        yield b"%d " % number + request


def client_stream(requests, context):
    return b"+".join(requests)


def bidi(requests, context):
    for request in requests:
        yield b"echo " + request


def missing(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "there is none")


def endless(request, context):
    context.add_callback(left.set)
    yield b"begun"
    left.wait(30)


def has_left(request, context):
    return b"yes" if left.wait(10) else b"no"


def large(request, context):
    return request


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
        "Missing": grpc.unary_unary_rpc_method_handler(missing),
        "Endless": grpc.unary_stream_rpc_method_handler(endless),
        "HasLeft": grpc.unary_unary_rpc_method_handler(has_left),
        "Large": grpc.unary_unary_rpc_method_handler(large),
    }),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    # Until the test closes it.
    sys.stdin.read()
    server.stop(0)


def outcome(call):
    try:
        return call()
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"


def call(address):
    options = [("grpc.default_authority", "h2.example"), ("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(address, options) as channel:
        path = f"/{NAME}/".__add__
        unary = lambda name: lambda: channel.unary_unary(path(name))(b"x", timeout=20).decode()
        answers = {}
        answer, last = channel.unary_unary(path("Unary")).with_call(b"x", timeout=20)
        answers["unary"] = [answer.decode(), dict(last.trailing_metadata())["x-kind"]]
        parts = list(channel.unary_stream(path("ServerStream"))(b"x", timeout=20))
        answers["server stream"] = [len(parts), parts[-1].decode()]
        answers["client stream"] = channel.stream_unary(path("ClientStream"))(iter([b"a", b"b", b"c"]), timeout=20).decode()
        more = threading.Semaphore(0)
        questions = (more.acquire() and b"%d" % number for number in range(3))
        answers["bidi"] = []
        more.release()
        for part in channel.stream_stream(path("Bidi"))(questions, timeout=20):
            # Each question is asked when the one before has its answer.
            answers["bidi"].append(part.decode())
            more.release()
        answers["missing"] = outcome(unary("Missing"))
        answers["unknown"] = outcome(unary("Nothing")).split(":")[0]
        endless = channel.unary_stream(path("Endless"))(b"", timeout=20)
        answers["begun"] = next(endless).decode()
        endless.cancel()
        answers["has left"] = unary("HasLeft")()
        body = bytes(range(256)) * 8192
        answers["large"] = channel.unary_unary(path("Large"))(body, timeout=20) == body
        answers["mocked"] = outcome(unary("Mocked"))
        answers["busy"] = outcome(unary("Busy")).split(":")[0]
        answers["unary again"] = unary("Unary")()
    print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else call(sys.argv[2])
