// The mutex of reusable objects, and what a fork does with it.
#include "platform/reuse.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace onward {

std::mutex& reuse_mutex() {
    static std::mutex mutex;
#if !defined(_WIN32)
    static const int registered = pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
    (void)registered;
#endif
    return mutex;
}

}  // namespace onward
