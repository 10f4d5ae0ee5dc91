// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "model.hpp"

namespace llama {

template class model<tpx::communicator<tpx::HostPinned, tpx::Ring, tpx::Cpu>>;
template class model<tpx::communicator<tpx::HostPinned, tpx::Tree, tpx::Cpu>>;
template class model<tpx::communicator<tpx::HostPinned, tpx::AllPairs, tpx::Cpu>>;
template class model<tpx::communicator<tpx::PeerDirect, tpx::Ring, tpx::Cpu>>;
template class model<tpx::communicator<tpx::PeerDirect, tpx::Tree, tpx::Cpu>>;
template class model<tpx::communicator<tpx::PeerDirect, tpx::AllPairs, tpx::Cpu>>;
template class model<tpx::communicator<tpx::PeerDirect, tpx::Auto, tpx::Cpu>>;

}  // namespace llama
