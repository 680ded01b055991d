// The two readers of a generation. Both own it, so that a connection that drops its reply cancels what runs.
#include "server/generation/replies.h"

namespace bittern::server {
namespace {

class Source final : public BodySource {
 public:
  Source(std::unique_ptr<Generation> generation, std::unique_ptr<StreamWriter> writer)
      : generation_(std::move(generation)), writer_(std::move(writer)) {}

  void start(Wake wake) override { generation_->start(std::move(wake)); }

  bool poll(std::string& out) override {
    if (!begun_) writer_->begin(*generation_, out);
    begun_ = true;
    while (const auto event = generation_->poll()) writer_->event(*generation_, *event, out);
    if (!generation_->finished()) return false;
    writer_->end(*generation_, out);
    return true;
  }

  std::string_view ping() const override { return writer_->ping(); }

 private:
  std::unique_ptr<Generation> generation_;
  std::unique_ptr<StreamWriter> writer_;
  bool begun_ = false;
};

class Whole final : public LaterReply {
 public:
  Whole(std::unique_ptr<Generation> generation, std::function<void(const TextEvent&)> collect,
        std::function<HttpReply(const Generation&)> finish)
      : generation_(std::move(generation)), collect_(std::move(collect)), finish_(std::move(finish)) {}

  void start(Wake wake) override { generation_->start(std::move(wake)); }

  std::optional<HttpReply> poll() override {
    while (const auto event = generation_->poll()) collect_(*event);
    if (!generation_->finished()) return std::nullopt;
    return finish_(*generation_);
  }

 private:
  std::unique_ptr<Generation> generation_;
  std::function<void(const TextEvent&)> collect_;
  std::function<HttpReply(const Generation&)> finish_;
};

}  // namespace

HttpReply stream_reply(std::unique_ptr<Generation> generation, std::unique_ptr<StreamWriter> writer) {
  HttpReply reply;
  reply.content_type = "text/event-stream; charset=utf-8";
  reply.headers = {{"cache-control", "no-cache"}, {"x-accel-buffering", "no"}};
  reply.source = std::make_unique<Source>(std::move(generation), std::move(writer));
  return reply;
}

HttpReply whole_reply(std::unique_ptr<Generation> generation, std::function<void(const TextEvent&)> collect,
                      std::function<HttpReply(const Generation&)> finish) {
  HttpReply reply;
  reply.later = std::make_unique<Whole>(std::move(generation), std::move(collect), std::move(finish));
  return reply;
}

void append_sse(std::string& out, std::string_view name, const OrderedJson& data) {
  if (!name.empty()) out.append("event: ").append(name).append("\n");
  out.append("data: ").append(data.dump(-1, ' ', false, OrderedJson::error_handler_t::replace)).append("\n\n");
}

}  // namespace bittern::server
