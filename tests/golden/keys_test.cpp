// Strict accounting of keys: on every golden checkpoint, any one tensor taken away, one too many, or one of another
// shape is refused by its name. The checkpoints are edited in memory.
#include <gtest/gtest.h>

#include "base/json.h"
#include "golden/golden_case.h"
#include "models/model.h"
#include "support/expect_error.h"
#include "support/memory_files.h"
#include "tensor/safetensors.h"

namespace bittern::golden {
namespace {

struct StoredTensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string data;
};

std::string shard_of(const std::string& name) {
  return name.ends_with(".safetensors") && name.starts_with("model") ? name : "";
}

std::vector<StoredTensor> read_tensors(const ModelFiles& files) {
  std::vector<StoredTensor> tensors;
  for (const std::string& name : files.list()) {
    if (shard_of(name).empty()) continue;
    const SafetensorsFile file = read_safetensors(files.require(name));
    for (const SafetensorsEntry& entry : file.entries) {
      const auto* begin = reinterpret_cast<const char*>(entry.data.data());
      tensors.push_back({entry.name, entry.dtype_name, entry.shape, std::string(begin, entry.data.size())});
    }
  }
  return tensors;
}

std::string safetensors_of(const std::vector<StoredTensor>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const StoredTensor& tensor : tensors) {
    const std::size_t end = data.size() + tensor.data.size();
    header[tensor.name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {data.size(), end}}};
    data += tensor.data;
  }
  return testing::raw_safetensors(header.dump(), data);
}

class GoldenKeys : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto files = ModelFiles::from_directory(models_folder() / GetParam());
    config_ = std::string(files->require("config.json").text());
    tensors_ = read_tensors(*files);
    backend_ = make_backend("ref", {});
  }

  void load(const std::vector<StoredTensor>& tensors) {
    load_model(testing::memory_files({{"config.json", config_}, {"model.safetensors", safetensors_of(tensors)}}),
               *backend_);
  }

  std::string config_;
  std::vector<StoredTensor> tensors_;
  std::unique_ptr<Backend> backend_;
};

TEST_P(GoldenKeys, EachMissingTensorIsNamed) {
  ASSERT_NO_THROW(load(tensors_));
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    std::vector<StoredTensor> rest = tensors_;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, tensors_[i].name, load(rest));
  }
}

TEST_P(GoldenKeys, AllMissingTensorsAreListed) {
  const std::vector<StoredTensor> some(tensors_.begin() + 3, tensors_.end());
  for (int i = 0; i < 3; ++i)
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, tensors_[static_cast<std::size_t>(i)].name, load(some));
}

TEST_P(GoldenKeys, UnusedTensorsAreListed) {
  std::vector<StoredTensor> more = tensors_;
  for (const char* name :
       {"model.layers.0.self_attn.extra_proj.weight", "model.layers.7.ffn_norm.weight", "score.bias"}) {
    more.push_back({name, "F32", {1}, std::string(4, '\0')});
  }
  for (const char* name : {"extra_proj.weight", "model.layers.7.ffn_norm.weight", "score.bias"}) {
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, name, load(more));
  }
}

TEST_P(GoldenKeys, EachWrongShapeIsNamed) {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    std::vector<StoredTensor> changed = tensors_;
    StoredTensor& tensor = changed[i];
    const std::size_t row = tensor.data.size() / static_cast<std::size_t>(tensor.shape[0]);
    tensor.data.resize(tensor.data.size() - row);
    --tensor.shape[0];
    // Linears are named as modules, without ".weight".
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, tensor.name.substr(0, tensor.name.rfind('.')), load(changed));
  }
}

TEST_P(GoldenKeys, RecomputedBuffersAreIgnored) {
  std::vector<StoredTensor> more = tensors_;
  more.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {2}, std::string(8, '\1')});
  EXPECT_NO_THROW(load(more));
}

std::string case_name(const ::testing::TestParamInfo<std::string>& info) { return info.param; }

INSTANTIATE_TEST_SUITE_P(Cases, GoldenKeys, ::testing::ValuesIn(case_names()), case_name);

}  // namespace
}  // namespace bittern::golden
