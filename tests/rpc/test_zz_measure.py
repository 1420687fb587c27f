import asyncio, grpc
from collections import Counter
from tests.rpc.test_malformed import *
from tests.rpc.refusals import refusal
from tests.rpc.world import make_world
def test_measure(start_server, dsn):
    s=start_server(SESSIOND_DSN=dsn)
    with grpc.insecure_channel(s.target) as ch:
        w=make_world(ch); r=Requests(w,5)
        async def run():
            async with grpc.aio.insecure_channel(s.target) as a:
                for full in (False,True):
                    for m in METHODS:
                        f=Fuzzer(a); why=Counter()
                        f_note=f._note
                        for _ in range(40):
                            req=r.sensible(m,full=full)
                            try:
                                c=f._calls[m.full_name]; b=req.SerializeToString()
                                if m.client_streaming:
                                    for x in [v1.AppendStreamResponse.FromString(i) async for i in c(iter([b]))]:
                                        for y in x.results:
                                            why[(v1.ErrorReason.Name(y.error.reason)[13:], y.error.field_violations[0].field if y.error.field_violations else '') if y.HasField('error') else 'OK']+=1
                                elif m.server_streaming: [i async for i in c(b)]; why['OK']+=1
                                else: await c(b); why['OK']+=1
                            except grpc.aio.AioRpcError as e:
                                x=refusal(e); why[(x.reason, x.violations[0] if x.reason=='INVALID_FIELD' else '')]+=1
                        print(full,m.name,dict(why.most_common(4)))
        asyncio.run(run())
