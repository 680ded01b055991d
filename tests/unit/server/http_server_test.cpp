// The HTTP server over real sockets: every kind of reply, what clients may do wrong, and its end while they are there.
#include <gtest/gtest.h>

#include "support/http_loopback.h"

namespace bittern::server {
namespace {

using namespace std::chrono_literals;
using testing::Client;
using testing::eventually;
using testing::LoopbackServer;

constexpr const char* kClose = "connection: close\r\n";

int status_of(const std::string& reply) { return reply.size() > 12 ? std::stoi(reply.substr(9, 3)) : 0; }
bool has(const std::string& reply, std::string_view text) { return reply.find(text) != std::string::npos; }
std::string body_of(const std::string& reply) { return reply.substr(reply.find("\r\n\r\n") + 4); }

TEST(HttpServer, AnswersAtOnceLateAndBitByBit) {
  LoopbackServer server;
  EXPECT_EQ(body_of(Client(server.port()).get("/ok", kClose).read_all()), "ok");
  EXPECT_EQ(body_of(Client(server.port()).post("/echo", "abc", kClose).read_all()), "abc");
  EXPECT_EQ(body_of(Client(server.port()).get("/later", kClose).read_all()), "late");
  const std::string stream = Client(server.port()).get("/stream", kClose).read_all();
  EXPECT_TRUE(has(stream, "text/event-stream; charset=utf-8") && has(stream, "data: 4\n\n")) << stream;
  EXPECT_TRUE(stream.ends_with("0\r\n\r\n"));
  EXPECT_EQ(body_of(Client(server.port()).get("/large", kClose).read_all()).size(), 32u << 20);
  EXPECT_TRUE(eventually([&] { return server.alive() == 0; }));
}

TEST(HttpServer, TellsErrorsOfHandlersInTheirRoutesShape) {
  LoopbackServer server;
  const std::string bug = Client(server.port()).get("/bug", kClose).read_all();
  EXPECT_EQ(status_of(bug), 500);
  EXPECT_FALSE(has(bug, "a detail"));
  const std::string late = Client(server.port()).get("/later/broken", kClose).read_all();
  EXPECT_EQ(status_of(late), 400);
  EXPECT_TRUE(has(late, R"("param":"top_p")")) << late;
}

TEST(HttpServer, AStreamThatBreaksDoesNotLookAsIfItHadEnded) {
  LoopbackServer server;
  const std::string reply = Client(server.port()).get("/stream/broken").read_all();  // closed, though kept alive
  EXPECT_TRUE(has(reply, "data: 2"));
  EXPECT_FALSE(reply.ends_with("0\r\n\r\n"));
  EXPECT_TRUE(eventually([&] { return server.alive() == 0 && server.http().connections() == 0; }));
}

TEST(HttpServer, PipelinedRequestsOfEveryKindAreAnsweredInOrder) {
  LoopbackServer server;
  Client client(server.port());
  for (int i = 0; i < 10; ++i) client.get("/stream").post("/echo", "<" + std::to_string(i) + ">").get("/later");
  const std::string replies = client.get("/ok", kClose).read_all();
  std::size_t at = 0;
  for (int i = 0; i < 10; ++i) {
    for (const std::string& wanted : {std::string("data: 4"), "<" + std::to_string(i) + ">", std::string("late")}) {
      at = replies.find(wanted, at);
      ASSERT_NE(at, std::string::npos) << i << " " << wanted;
    }
  }
}

TEST(HttpServer, AClientThatLeavesEndsWhatItWaitedFor) {
  LoopbackServer server;
  for (int i = 0; i < 20; ++i) Client(server.port()).get("/stream/endless").read_until("data: 3");
  EXPECT_TRUE(eventually([&] { return server.alive() == 0 && server.http().connections() == 0; }));
  EXPECT_TRUE(eventually([&] { return server.records().size() == 20; }));
  for (const ExchangeRecord& record : server.records()) EXPECT_FALSE(record.complete);
}

TEST(HttpServer, ASlowClientIsCut) {
  ServeOptions options;
  options.write_timeout = 200ms;
  LoopbackServer server(options);
  Client deaf(server.port());
  deaf.get("/large");
  EXPECT_TRUE(eventually([&] { return server.records().size() == 1; }));
  EXPECT_FALSE(server.records()[0].complete);
}

TEST(HttpServer, LimitsAreTold) {
  ServeOptions options;
  options.max_body_bytes = 1000;
  options.max_header_bytes = 2000;
  options.header_timeout = options.body_timeout = 300ms;
  LoopbackServer server(options);
  const std::string large(100'000, 'x');
  EXPECT_EQ(status_of(Client(server.port()).post("/echo", large).read_all()), 413);
  EXPECT_EQ(status_of(Client(server.port()).get("/ok", "x-long: " + large + "\r\n").read_all()), 431);
  EXPECT_EQ(status_of(Client(server.port()).send("GET /ok HT").read_all()), 408);
  EXPECT_EQ(status_of(Client(server.port()).send("POST /echo HTTP/1.1\r\ncontent-length: 9\r\n\r\nx").read_all()), 408);
  EXPECT_EQ(Client(server.port()).read_all(), "");  // silence is ended in silence
  const std::string chunks = "POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1000\r\n";
  EXPECT_EQ(status_of(Client(server.port()).send(chunks + large).read_all()), 413);
}

TEST(HttpServer, AmbiguousLengthsAreRefused) {
  LoopbackServer server;
  for (const char* lengths :
       {"content-length: 3\r\ncontent-length: 4\r\n", "content-length: -1\r\n",
        "content-length: 3\r\ntransfer-encoding: chunked\r\n", "content-length: 99999999999999999999999\r\n"}) {
    const std::string reply =
        Client(server.port()).send("POST /echo HTTP/1.1\r\n" + std::string(lengths) + "\r\nabc").read_all();
    EXPECT_TRUE(status_of(reply) == 400 || status_of(reply) == 413) << lengths << reply;
  }
}

TEST(HttpServer, ConnectionsBeyondTheLimitAreClosed) {
  ServeOptions options;
  options.max_connections = 3;
  LoopbackServer server(options);
  std::vector<std::unique_ptr<Client>> crowd;
  for (int i = 0; i < 3; ++i) {
    crowd.push_back(std::make_unique<Client>(server.port()));
    EXPECT_EQ(status_of(crowd.back()->get("/ok").read_until("ok")), 200);
  }
  EXPECT_EQ(Client(server.port()).get("/ok").read_all(), "");
  crowd.clear();
  EXPECT_TRUE(eventually([&] { return server.http().connections() == 0; }));
  EXPECT_EQ(status_of(Client(server.port()).get("/ok", kClose).read_all()), 200);
}

TEST(HttpServer, DrainingEndsIdleConnectionsAndLetsRepliesFinish) {
  LoopbackServer server;
  Client idle(server.port()), busy(server.port()), endless(server.port());
  idle.get("/ok").read_until("ok");
  busy.get("/slow");
  endless.get("/stream/endless").read_until("data: 3");
  std::this_thread::sleep_for(100ms);
  server.http().drain();
  EXPECT_EQ(idle.read_all(), "");
  const std::string reply = busy.read_all();
  EXPECT_TRUE(has(reply, "connection: close") && body_of(reply) == "slow") << reply;
  EXPECT_FALSE(server.http().wait_until_idle(50ms));
  EXPECT_NE(server.http().url(), "");  // still known when nobody listens any more
  server.http().stop();
  EXPECT_EQ(server.alive(), 0);
}

TEST(HttpServer, StopsUnderLoad) {
  for (int round = 0; round < 5; ++round) {
    LoopbackServer server;
    std::vector<std::thread> clients;
    for (int i = 0; i < 8; ++i) {
      clients.emplace_back([port = server.port(), i] {
        const char* paths[] = {"/ok", "/later", "/stream", "/stream/endless"};
        for (int n = 0; n < 20; ++n) Client(port).get(paths[(i + n) % 4], kClose).read_until(n % 3 == 0 ? "\n" : "0");
      });
    }
    std::this_thread::sleep_for(20ms);
    server.http().stop();
    EXPECT_EQ(server.alive(), 0);
    for (std::thread& client : clients) client.join();
  }
}

}  // namespace
}  // namespace bittern::server
