// The routes about models and tokens, over the embedded model.
#include "route_fixture.h"

namespace bittern::server {
namespace {

using testing::RouteTest;

class ModelsRoutes : public RouteTest {};
class TokenizeRoutes : public RouteTest {};

TEST_F(ModelsRoutes, ListsAndShowsCards) {
  const OrderedJson list = get("/v1/models");
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 1U);
  const OrderedJson card = get("/v1/models/mini");
  EXPECT_EQ(card, list["data"][0]);
  EXPECT_EQ(card["id"], "mini");
  EXPECT_EQ(card["object"], "model");
  EXPECT_EQ(card["max_model_len"], 1024);
  EXPECT_EQ(card["status"]["value"], "loaded");
  EXPECT_GT(card["memory_bytes"], 1 << 20);
  EXPECT_GT(card["created"], 1'700'000'000);
}

TEST_F(ModelsRoutes, AnUnknownModelIsNamed) {
  try {
    get("/v1/models/nobody");
    FAIL();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    EXPECT_EQ(error.param(), "model");
    EXPECT_EQ(error.api_code(), "model_not_found");
  }
  EXPECT_EQ(refused("/models/load", {{"model", "nobody"}}).code(), ErrorCode::not_found);
  EXPECT_EQ(refused("/models/load", OrderedJson::object()).param(), "model");
}

TEST_F(ModelsRoutes, UnloadsAndLoads) {
  EXPECT_EQ(post("/models/unload", {{"model", "mini"}})["model"]["status"]["value"], "unloaded");
  EXPECT_FALSE(pool().list()[0].loaded);
  const OrderedJson loaded = post("/models/load", {{"model", "mini"}});
  EXPECT_EQ(loaded["success"], true);
  EXPECT_EQ(loaded["model"]["status"]["value"], "loaded");
  post("/models/unload", {{"model", "mini"}});
  EXPECT_GT(post("/tokenize", {{"prompt", "Hello"}})["count"], 0) << "a request loads its model";
  EXPECT_TRUE(route("POST", "/models/unload").needs_key);
}

TEST_F(TokenizeRoutes, RoundTrips) {
  const std::string text = "Twelve ducks swim, ünïcode too.";
  const OrderedJson vllm = post("/tokenize", {{"model", "mini"}, {"prompt", text}, {"return_token_strs", true}});
  EXPECT_EQ(vllm["count"], vllm["tokens"].size());
  EXPECT_EQ(vllm["token_strs"].size(), vllm["tokens"].size());
  EXPECT_EQ(vllm["max_model_len"], 1024);
  const OrderedJson llama = post("/tokenize", {{"content", text}, {"with_pieces", true}});
  std::string joined;
  for (const OrderedJson& token : llama["tokens"]) {
    if (token["piece"].is_string()) joined += token["piece"].get<std::string>();
    if (!token["piece"].is_array()) continue;
    for (const OrderedJson& byte : token["piece"]) joined += static_cast<char>(byte.get<int>());
  }
  EXPECT_EQ(joined, text);
  const OrderedJson plain = post("/tokenize", {{"content", text}});
  EXPECT_EQ(post("/detokenize", {{"tokens", plain["tokens"]}})["content"], text);
  EXPECT_EQ(post("/detokenize", {{"tokens", plain["tokens"]}})["prompt"], text);
}

TEST_F(TokenizeRoutes, AppliesTheTemplate) {
  const OrderedJson messages = OrderedJson::parse(R"([{"role":"user","content":"Hi"}])");
  const std::string prompt = post("/apply-template", {{"messages", messages}})["prompt"];
  EXPECT_NE(prompt.find("Hi"), std::string::npos);
  const OrderedJson tokens = post("/tokenize", {{"messages", messages}})["tokens"];
  EXPECT_EQ(post("/detokenize", {{"tokens", tokens}})["prompt"], prompt);
  const OrderedJson open = post("/tokenize", {{"messages", messages}, {"add_generation_prompt", false}})["tokens"];
  EXPECT_LT(open.size(), tokens.size());
}

TEST_F(TokenizeRoutes, EncodesAsLmdeploy) {
  const OrderedJson one = post("/v1/encode", {{"input", "Hello there"}});
  EXPECT_EQ(one["length"], one["input_ids"].size());
  const OrderedJson two = post("/v1/encode", {{"input", {"Hello there", "Hi"}}, {"add_bos", false}});
  EXPECT_EQ(two["input_ids"].size(), 2U);
  EXPECT_EQ(two["length"][1], two["input_ids"][1].size());
}

TEST_F(TokenizeRoutes, TellsOfTheTokenizer) {
  const OrderedJson info = get("/tokenizer_info");
  const std::string eos = info["eos_token"];
  EXPECT_EQ(post("/tokenize", {{"prompt", eos}, {"add_special_tokens", false}})["count"], 1);
  EXPECT_EQ(info["model_max_length"], 1024);
  EXPECT_TRUE(info["chat_template"].is_string());
}

TEST_F(TokenizeRoutes, RefusesByName) {
  EXPECT_EQ(refused("/tokenize", OrderedJson::object()).param(), "prompt");
  EXPECT_EQ(refused("/tokenize", {{"prompt", 5}}).param(), "prompt");
  EXPECT_EQ(refused("/tokenize", {{"model", "x"}, {"prompt", "a"}}).param(), "model");
  EXPECT_EQ(refused("/detokenize", {{"tokens", {1, 999999}}}).param(), "tokens[1]");
  EXPECT_EQ(refused("/detokenize", {{"tokens", "abc"}}).param(), "tokens");
  EXPECT_EQ(refused("/v1/encode", OrderedJson::object()).param(), "input");
  EXPECT_EQ(refused("/v1/encode", {{"input", "a"}, {"do_preprocess", true}}).param(), "do_preprocess");
}

}  // namespace
}  // namespace bittern::server
