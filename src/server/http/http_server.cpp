// One acceptor deals its sockets to the I/O threads in turn. Each thread has its own io_context, so connections never
// share a lock; what must reach all of them is posted to each.
#include "server/http/http_server.h"

#include <utility>  // before asio: Boost 1.74's awaitable.hpp needs it

#include <bittern/error.h>
#include <fmt/core.h>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <mutex>
#include <thread>
#include <vector>

#include "base/log.h"
#include "server/http/connection.h"
#include "server/http/tls.h"

namespace bittern::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;

constexpr milliseconds kAcceptPause{50};  // after a failed accept: time for a file descriptor to come free

struct IoThread {
  ConnectionSet set;  // before the context, whose end destroys the connections that are left
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(context);
  std::thread thread;
};

tcp::endpoint resolve(const std::string& host, std::uint16_t port) {
  asio::io_context context;
  error_code ec;
  const auto found = tcp::resolver(context).resolve(host, std::to_string(port), tcp::resolver::passive, ec);
  if (ec || found.empty()) {
    throw Error(ErrorCode::invalid_argument, fmt::format("--host {}: {}", host, ec.message()),
                "give an address of this machine");
  }
  return found.begin()->endpoint();
}

void run_context(asio::io_context& context) {
  for (;;) {
    try {
      context.run();
      return;
    } catch (const std::exception& error) {  // of one handler; the others go on
      log_error("server thread: {}", error.what());
    }
  }
}

}  // namespace

struct HttpServer::Impl {
  Impl(const ServeOptions& options, std::vector<Route> routes, HttpObserver observer)
      : shared(options, std::move(routes), std::move(observer)) {
    for (int i = 0; i < options.io_threads; ++i) {
      io.push_back(std::make_unique<IoThread>());
      io.back()->set.hub = std::make_shared<WakeHub>(io.back()->context.get_executor());
    }
    tls = load_tls(options);
    acceptor = std::make_unique<tcp::acceptor>(io.front()->context);
    pause = std::make_unique<asio::steady_timer>(io.front()->context);
    listen(resolve(options.host, options.port));
  }

  ~Impl() { stop(); }

  void listen(const tcp::endpoint& endpoint) {
    try {
      acceptor->open(endpoint.protocol());
      acceptor->set_option(tcp::acceptor::reuse_address(true));
      acceptor->bind(endpoint);
      acceptor->listen(4096);
      listening = acceptor->local_endpoint();
    } catch (const boost::system::system_error& error) {
      throw Error(ErrorCode::io,
                  fmt::format("cannot listen on {}:{}: {}", endpoint.address().to_string(), endpoint.port(),
                              error.code().message()),
                  "choose another --port, or end the program that uses this one");
    }
  }

  void start() {
    accept();
    for (const auto& thread : io) thread->thread = std::thread([&context = thread->context] { run_context(context); });
    started = true;
  }

  void accept() {
    IoThread& to = *io[next++ % io.size()];
    acceptor->async_accept(to.context, [this, &to](error_code ec, tcp::socket socket) {
      if (ec == asio::error::operation_aborted || shared.draining) return;
      if (ec) return accept_later(ec);
      take(std::move(socket), to);
      accept();
    });
  }

  void accept_later(error_code ec) {
    log_warn("a connection could not be accepted: {}; trying again", ec.message());
    if (shared.observer.accept_failed) shared.observer.accept_failed();
    pause->expires_after(kAcceptPause);
    pause->async_wait([this](error_code stopped) {
      if (!stopped) accept();
    });
  }

  void take(tcp::socket socket, IoThread& to) {
    if (shared.connections >= shared.options.max_connections)
      return;  // closes it: a client that is refused tries again
    const std::lock_guard lock(tls_mutex);
    asio::post(to.context, [this, &to, tls_now = tls, s = std::make_shared<tcp::socket>(std::move(socket))] {
      start_connection(std::move(*s), tls_now, shared, to.set);
    });
  }

  template <class Action>
  void on_every_connection(const Action& action) {
    for (const auto& thread : io) {
      asio::post(thread->context, [set = &thread->set, action] {
        const std::vector<Connection*> all(set->all.begin(), set->all.end());
        for (Connection* connection : all) action(*connection);
      });
    }
  }

  void drain() {
    shared.draining = true;
    asio::post(io.front()->context, [this] {
      error_code ec;
      acceptor->close(ec);
      pause->cancel();
    });
    on_every_connection([](Connection& connection) { connection.drain(); });
  }

  bool wait_until_idle(milliseconds limit) const {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (shared.connections > 0 && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(milliseconds(10));
    return shared.connections == 0;
  }

  void stop() {
    if (!started) return;
    started = false;
    drain();
    on_every_connection([](Connection& connection) { connection.abort(); });
    wait_until_idle(milliseconds(5000));
    shared.workers.join();
    for (const auto& thread : io) {
      thread->set.hub->close();
      thread->context.stop();
      thread->thread.join();
    }
  }

  HttpShared shared;
  std::vector<std::unique_ptr<IoThread>> io;
  std::mutex tls_mutex;
  std::shared_ptr<asio::ssl::context> tls;  // null: plain HTTP
  std::unique_ptr<tcp::acceptor> acceptor;
  tcp::endpoint listening;  // kept, since a drained server has closed the acceptor
  std::unique_ptr<asio::steady_timer> pause;
  std::size_t next = 0;
  bool started = false;
};

HttpServer::HttpServer(const ServeOptions& options, std::vector<Route> routes, HttpObserver observer)
    : impl_(std::make_unique<Impl>(options, std::move(routes), std::move(observer))) {}
HttpServer::~HttpServer() = default;

void HttpServer::start() { impl_->start(); }
std::uint16_t HttpServer::port() const { return impl_->listening.port(); }
std::string HttpServer::url() const {
  const tcp::endpoint& at = impl_->listening;
  const std::string host = at.address().is_v6() ? "[" + at.address().to_string() + "]" : at.address().to_string();
  return fmt::format("{}://{}:{}", impl_->shared.options.tls_certificate.empty() ? "http" : "https", host, at.port());
}
int HttpServer::connections() const { return impl_->shared.connections; }
void HttpServer::drain() { impl_->drain(); }
bool HttpServer::wait_until_idle(milliseconds limit) { return impl_->wait_until_idle(limit); }
void HttpServer::stop() { impl_->stop(); }
void HttpServer::reload_tls() {
  auto fresh = load_tls(impl_->shared.options);
  const std::lock_guard lock(impl_->tls_mutex);
  impl_->tls = std::move(fresh);
}

}  // namespace bittern::server
