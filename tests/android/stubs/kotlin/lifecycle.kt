package androidx.lifecycle

import kotlinx.coroutines.CoroutineScope

val LifecycleOwner.lifecycleScope: CoroutineScope get() = TODO("compile-only")

suspend fun LifecycleOwner.repeatOnLifecycle(state: Lifecycle.State, block: suspend CoroutineScope.() -> Unit): Unit = TODO("compile-only")
