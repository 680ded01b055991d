// A server of a few small routes on a free port of this machine, and a client that sends bytes as they are: for tests
// of what HTTP clients can do wrong. The routes stand for those of models: whole, late, streamed, and each of them
// broken.
#pragma once

#include <bittern/error.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "server/api_error.h"
#include "server/generation/fields.h"
#include "server/http/http_server.h"

namespace bittern::testing {

using namespace std::chrono_literals;

/// A thread of its own calls `wake` until it is told to stop, as an engine's does.
class Waker {
 public:
  explicit Waker(server::Wake wake) : thread_([this, wake = std::move(wake)] { run(wake); }) {}
  ~Waker() {
    stop_ = true;
    thread_.join();
  }

 private:
  void run(const server::Wake& wake) {
    while (!stop_) {
      wake();
      std::this_thread::sleep_for(1ms);
    }
  }
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// Yields `events` events, or breaks or goes on for ever; `alive` counts the sources that exist.
class CountingSource final : public server::BodySource {
 public:
  enum class End { done, throws, never };
  CountingSource(int events, End end, std::atomic<int>& alive) : events_(events), end_(end), alive_(alive) { ++alive_; }
  ~CountingSource() override { --alive_; }
  void start(server::Wake wake) override { waker_ = std::make_unique<Waker>(std::move(wake)); }
  bool poll(std::string& out) override {
    if (sent_ == events_ && end_ == End::throws) throw Error(ErrorCode::internal, "the source broke");
    if (sent_ < events_ || end_ == End::never) out += "data: " + std::to_string(sent_++) + "\n\n";
    return sent_ == events_ && end_ == End::done;
  }

 private:
  const int events_;
  const End end_;
  std::atomic<int>& alive_;
  int sent_ = 0;
  std::unique_ptr<Waker> waker_;
};

/// Ready at the third poll; then a reply, or an error that names a field.
class ThirdPoll final : public server::LaterReply {
 public:
  ThirdPoll(bool throws, std::atomic<int>& alive) : throws_(throws), alive_(alive) { ++alive_; }
  ~ThirdPoll() override { --alive_; }
  void start(server::Wake wake) override { waker_ = std::make_unique<Waker>(std::move(wake)); }
  std::optional<server::HttpReply> poll() override {
    if (++polls_ < 3) return std::nullopt;
    if (throws_) throw server::ApiError(ErrorCode::invalid_argument, "top_p", "top_p is 7");
    server::HttpReply reply;
    reply.body = "late";
    return reply;
  }

 private:
  const bool throws_;
  std::atomic<int>& alive_;
  int polls_ = 0;
  std::unique_ptr<Waker> waker_;
};

class LoopbackServer {
 public:
  explicit LoopbackServer(server::ServeOptions options = {}) : options_(std::move(options)) {
    options_.port = 0;
    server::HttpObserver observer;
    observer.exchange = [this](const server::ExchangeRecord& record) {
      const std::lock_guard lock(mutex_);
      records_.push_back(record);
    };
    http_ = std::make_unique<server::HttpServer>(options_, routes(), std::move(observer));
    http_->start();
  }

  server::HttpServer& http() { return *http_; }
  std::uint16_t port() const { return http_->port(); }
  /// Sources and late replies that exist.
  int alive() const { return alive_; }
  std::vector<server::ExchangeRecord> records() const {
    const std::lock_guard lock(mutex_);
    return records_;
  }

 private:
  static server::HttpReply text(std::string body) {
    server::HttpReply reply;
    reply.body = std::move(body);
    return reply;
  }
  server::Handler stream(int events, CountingSource::End end) {
    return [this, events, end](const server::HttpRequest&) {
      server::HttpReply reply;
      reply.content_type = "text/event-stream";
      reply.source = std::make_unique<CountingSource>(events, end, alive_);
      return reply;
    };
  }
  server::Handler later(bool throws) {
    return [this, throws](const server::HttpRequest&) {
      server::HttpReply reply;
      reply.later = std::make_unique<ThirdPoll>(throws, alive_);
      return reply;
    };
  }
  std::vector<server::Route> routes() {
    using End = CountingSource::End;
    std::vector<server::Route> list;
    list.push_back({"GET", "/ok", [](const server::HttpRequest&) { return text("ok"); }, false});
    list.push_back({"POST", "/echo", [](const server::HttpRequest& request) { return text(request.body); }});
    list.push_back({"POST", "/json",
                    [](const server::HttpRequest& request) { return text(server::parse_body(request.body).dump()); }});
    list.push_back({"GET", "/large", [](const server::HttpRequest&) { return text(std::string(32 << 20, 'x')); }});
    list.push_back({"GET", "/bug", [](const server::HttpRequest&) -> server::HttpReply {
                      throw std::logic_error("a detail that clients need not know");
                    }});
    list.push_back({"GET", "/slow", [](const server::HttpRequest&) {
                      std::this_thread::sleep_for(300ms);
                      return text("slow");
                    }});
    list.push_back({"GET", "/later", later(false)});
    list.push_back({"GET", "/later/broken", later(true)});
    list.push_back({"GET", "/stream", stream(5, End::done)});
    list.push_back({"GET", "/stream/broken", stream(3, End::throws)});
    list.push_back({"GET", "/stream/endless", stream(0, End::never)});
    return list;
  }

  server::ServeOptions options_;
  std::atomic<int> alive_{0};
  mutable std::mutex mutex_;
  std::vector<server::ExchangeRecord> records_;
  std::unique_ptr<server::HttpServer> http_;  // last: its end waits for what uses the others
};

class Client {
 public:
  explicit Client(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval limit{20, 0};  // so that a hang fails the test and not the run
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  }
  Client(const Client&) = delete;
  ~Client() { ::close(fd_); }

  bool connected() const { return connected_; }
  Client& send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) break;  // refused before it was read whole: the reply says why
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return *this;
  }
  Client& get(std::string_view path, std::string_view more = {}) {
    return send("GET " + std::string(path) + " HTTP/1.1\r\nhost: test\r\n" + std::string(more) + "\r\n");
  }
  Client& post(std::string_view path, std::string_view body, std::string_view more = {}) {
    return send("POST " + std::string(path) + " HTTP/1.1\r\nhost: test\r\ncontent-length: " +
                std::to_string(body.size()) + "\r\n" + std::string(more) + "\r\n" + std::string(body));
  }
  Client& end() {
    ::shutdown(fd_, SHUT_WR);
    return *this;
  }
  /// What comes up to `wanted`, or up to the end.
  std::string read_until(std::string_view wanted) {
    std::string got;
    char part[16384];
    while (wanted.empty() || got.find(wanted) == std::string::npos) {
      const ssize_t bytes = ::recv(fd_, part, sizeof part, 0);
      if (bytes <= 0) break;
      got.append(part, static_cast<std::size_t>(bytes));
    }
    return got;
  }
  std::string read_all() { return read_until({}); }

 private:
  int fd_;
  bool connected_ = false;
};

template <class Condition>
bool eventually(const Condition& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

}  // namespace bittern::testing
