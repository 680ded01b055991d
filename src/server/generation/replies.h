// Replies made of a run (a Generation or a ChatRun): whole, once it has ended, or event by event. What an API writes is
// left to a writer; waking, reading without blocking and cancelling when the client is gone happen here once for all.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/json.h"
#include "server/http/message.h"

namespace bittern::server {

/// What Run::poll() yields.
template <class Run>
using EventOf = typename decltype(std::declval<Run&>().poll())::value_type;

/// What one API sends while a run lasts, as bytes of the body. It is used by one thread at a time.
template <class Run>
class StreamWriter {
 public:
  virtual ~StreamWriter() = default;
  /// Before any event; the prompt has been accepted.
  virtual void begin(const Run&, std::string& /*out*/) {}
  virtual void event(const Run& run, const EventOf<Run>& event, std::string& out) = 0;
  /// After the last event.
  virtual void end(const Run&, std::string& /*out*/) {}
  /// Nothing more is to be sent, although choices may still go on (one has failed): what runs is then cancelled.
  virtual bool stopped() const { return false; }
  /// See BodySource::ping.
  virtual std::string_view ping() const { return ": ping\n\n"; }
};

namespace detail {

/// Both readers own the run, so that a connection that drops its reply cancels what runs.
template <class Run>
class RunSource final : public BodySource {
 public:
  RunSource(std::unique_ptr<Run> run, std::unique_ptr<StreamWriter<Run>> writer)
      : run_(std::move(run)), writer_(std::move(writer)) {}

  void start(Wake wake) override { run_->start(std::move(wake)); }

  bool poll(std::string& out) override {
    if (!std::exchange(begun_, true)) writer_->begin(*run_, out);
    while (const auto event = run_->poll()) {
      writer_->event(*run_, *event, out);
      if (writer_->stopped()) return true;
    }
    if (!run_->finished()) return false;
    writer_->end(*run_, out);
    return true;
  }

  std::string_view ping() const override { return writer_->ping(); }

 private:
  std::unique_ptr<Run> run_;
  std::unique_ptr<StreamWriter<Run>> writer_;
  bool begun_ = false;
};

template <class Run>
class WholeRun final : public LaterReply {
 public:
  using Collect = std::function<void(const EventOf<Run>&)>;
  using Finish = std::function<HttpReply(const Run&)>;
  WholeRun(std::unique_ptr<Run> run, Collect collect, Finish finish)
      : run_(std::move(run)), collect_(std::move(collect)), finish_(std::move(finish)) {}

  void start(Wake wake) override { run_->start(std::move(wake)); }

  std::optional<HttpReply> poll() override {
    while (const auto event = run_->poll()) collect_(*event);
    if (!run_->finished()) return std::nullopt;
    return finish_(*run_);
  }

 private:
  std::unique_ptr<Run> run_;
  Collect collect_;
  Finish finish_;
};

}  // namespace detail

/// A reply of server-sent events.
template <class Run>
HttpReply stream_reply(std::unique_ptr<Run> run, std::unique_ptr<StreamWriter<Run>> writer) {
  HttpReply reply;
  reply.content_type = "text/event-stream";
  reply.source = std::make_unique<detail::RunSource<Run>>(std::move(run), std::move(writer));
  return reply;
}

/// A reply that is complete when the run has ended: `collect` sees every event, then `finish` makes the reply. Either
/// may throw, which ends the request with that error.
template <class Run>
HttpReply whole_reply(std::unique_ptr<Run> run, typename detail::WholeRun<Run>::Collect collect,
                      typename detail::WholeRun<Run>::Finish finish) {
  HttpReply reply;
  reply.later = std::make_unique<detail::WholeRun<Run>>(std::move(run), std::move(collect), std::move(finish));
  return reply;
}

/// "event: NAME\ndata: JSON\n\n", without the first line when `name` is empty. Bytes that are not UTF-8 become U+FFFD.
inline void append_sse(std::string& out, std::string_view name, const OrderedJson& data) {
  if (!name.empty()) out.append("event: ").append(name).append("\n");
  out.append("data: ").append(data.dump(-1, ' ', false, OrderedJson::error_handler_t::replace)).append("\n\n");
}

}  // namespace bittern::server
