package androidx.lifecycle;

public abstract class ViewModel {
    public ViewModel(kotlinx.coroutines.CoroutineScope viewModelScope) {}
    protected void onCleared() {}
}
