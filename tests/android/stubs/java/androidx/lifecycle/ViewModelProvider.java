package androidx.lifecycle;

public class ViewModelProvider {
    public ViewModelProvider(ViewModelStoreOwner owner, Factory factory) {}
    public native <T extends ViewModel> T get(Class<T> type);
    public interface Factory { default <T extends ViewModel> T create(Class<T> type) { throw new UnsupportedOperationException(); } }
}
