// The waiting reply. What the loading thread writes and what the connection reads is shared under one mutex; whichever
// of the two ends first leaves it to the other.
#include "server/after_load.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <utility>

namespace bittern::server {
namespace {

// A model may be pushed out again before a request that waited for it has got it.
constexpr int kMaxTries = 4;

class Retry : public std::enable_shared_from_this<Retry> {
 public:
  Retry(ModelPool& models, Handler handler, HttpRequest request)
      : models_(models), handler_(std::move(handler)), request_(std::move(request)) {}

  void wait_for(const std::string& model) {
    models_.when_settled(model, [self = shared_from_this()] { self->run(); });
  }

  void start(Wake wake) {
    std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
    if (done_) wake_();
  }

  /// The reply, or what the handler threw.
  std::optional<HttpReply> take() {
    std::lock_guard lock(mutex_);
    if (!done_) return std::nullopt;
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));  // the one thread that has it from here on
    return std::move(reply_);
  }

  void abandon() { abandoned_ = true; }

 private:
  void run() {
    if (abandoned_) return;
    HttpReply reply;
    std::exception_ptr error;
    try {
      try {
        reply = handler_(request_);
      } catch (const ModelLoading& loading) {
        if (++tries_ >= kMaxTries) throw;
        return wait_for(loading.name());
      }
    } catch (...) {
      error = std::current_exception();
    }
    finish(std::move(reply), error);
  }

  void finish(HttpReply reply, std::exception_ptr error) {
    std::lock_guard lock(mutex_);
    reply_ = std::move(reply);
    error_ = std::move(error);
    done_ = true;
    if (wake_) wake_();
  }

  ModelPool& models_;
  const Handler handler_;
  const HttpRequest request_;
  int tries_ = 0;
  std::atomic<bool> abandoned_{false};
  std::mutex mutex_;
  Wake wake_;
  bool done_ = false;
  HttpReply reply_;
  std::exception_ptr error_;
};

class ReplyAfterLoad final : public LaterReply {
 public:
  explicit ReplyAfterLoad(std::shared_ptr<Retry> retry) : retry_(std::move(retry)) {}
  ~ReplyAfterLoad() override { retry_->abandon(); }

  void start(Wake wake) override {
    wake_ = wake;
    retry_->start(std::move(wake));
  }

  std::optional<HttpReply> poll() override {
    if (inner_) return inner_->poll();
    std::optional<HttpReply> reply = retry_->take();
    if (!reply || !reply->later) return reply;
    inner_ = std::move(reply->later);
    inner_->start(wake_);
    return inner_->poll();
  }

 private:
  std::shared_ptr<Retry> retry_;
  Wake wake_;
  std::unique_ptr<LaterReply> inner_;
};

}  // namespace

Handler after_load(ModelPool& models, Handler handler) {
  return [&models, handler = std::move(handler)](const HttpRequest& request) {
    try {
      return handler(request);
    } catch (const ModelLoading& loading) {
      const auto retry = std::make_shared<Retry>(models, handler, request);
      retry->wait_for(loading.name());
      HttpReply reply;
      reply.later = std::make_unique<ReplyAfterLoad>(retry);
      return reply;
    }
  };
}

}  // namespace bittern::server
