// LMDeploy's /generate over the embedded model.
#include "base/strings.h"
#include "route_fixture.h"

namespace bittern::server {
namespace {

class GenerateRoute : public testing::RouteTest {
 protected:
  static OrderedJson ask() {
    return {{"prompt", "Once upon a time"}, {"max_tokens", 12}, {"temperature", 0}, {"return_logprob", true}};
  }
};

TEST_F(GenerateRoute, AnswersWithTextTokensAndLogprobs) {
  const OrderedJson reply = post("/generate", ask());
  EXPECT_FALSE(reply["text"].get<std::string>().empty());
  const OrderedJson& meta = reply["meta_info"];
  EXPECT_EQ(meta["completion_tokens"], reply["output_ids"].size());
  EXPECT_GT(meta["prompt_tokens"], 0);
  const OrderedJson& logprobs = meta["output_token_logprobs"];
  ASSERT_EQ(logprobs.size(), reply["output_ids"].size());
  for (std::size_t i = 0; i < logprobs.size(); ++i) {
    EXPECT_LE(logprobs[i][0].get<float>(), 0);
    EXPECT_EQ(logprobs[i][1], reply["output_ids"][i]);
  }
  EXPECT_EQ(post("/detokenize", {{"tokens", reply["output_ids"]}, {"skip_special_tokens", true}})["prompt"],
            reply["text"]);
}

TEST_F(GenerateRoute, StreamsTheSame) {
  const OrderedJson whole = post("/generate", ask());
  OrderedJson body = ask();
  body["stream"] = true;
  const HttpReply reply = send("POST", "/generate", body.dump());
  EXPECT_TRUE(reply.content_type.starts_with("text/event-stream"));
  std::string text;
  OrderedJson ids = OrderedJson::array(), last;
  for (std::string_view line : split(reply.body, '\n')) {
    if (!line.starts_with("data: {")) continue;
    last = OrderedJson::parse(line.substr(6));
    text += last["text"].get<std::string>();
    for (const OrderedJson& id : last["output_ids"]) ids.push_back(id);
  }
  EXPECT_EQ(text, whole["text"]);
  EXPECT_EQ(ids, whole["output_ids"]);
  EXPECT_EQ(last["meta_info"]["finish_reason"], whole["meta_info"]["finish_reason"]);
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n"));
}

TEST_F(GenerateRoute, TakesTokens) {
  OrderedJson body = ask();
  const OrderedJson by_text = post("/generate", body);
  body["input_ids"] = post("/tokenize", {{"prompt", body["prompt"]}})["tokens"];
  EXPECT_EQ(refused("/generate", body).param(), "input_ids") << "both";
  body.erase("prompt");
  EXPECT_EQ(post("/generate", body)["output_ids"], by_text["output_ids"]);
}

TEST_F(GenerateRoute, RefusesByName) {
  EXPECT_EQ(refused("/generate", OrderedJson::object()).param(), "prompt");
  EXPECT_EQ(refused("/generate", {{"prompt", "a"}, {"image_data", "x"}}).param(), "image_data");
  EXPECT_EQ(refused("/generate", {{"prompt", "a"}, {"max_tokens", 0}}).param(), "max_tokens");
  EXPECT_EQ(refused("/generate", {{"prompt", "a"}, {"n", 2}}).param(), "n");
}

}  // namespace
}  // namespace bittern::server
